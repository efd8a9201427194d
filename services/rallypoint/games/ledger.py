"""Ledger: a game that keeps books of what it was given, for tests and `rallypoint bench chaos`.

Not installed as a game: a room node runs it when `RALLYPOINT_EXTRA_GAMES` says so (`EXTRA`). The
same with 64 KiB more of state, for `rallypoint bench moves`, is `Freight` (`EXTRA_FREIGHT`).

**Table** `entries` (rows are seats): `applied` u32, how many inputs of the seat were ever applied.
**Table** `clock` (one row): `ticks` u32, how many ticks the room has lived.
Both are part of the room's state: after a recovery they say how much play was lost, and an input
applied twice shows as `applied` beyond the seq acknowledged. **Input** `mark` u8, of no meaning.
**Table** `crates` (of `Freight`): four u32 of no meaning, that never change.
**Message** 1 `FINISH` ends the match; the first seats score highest.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rallypoint.games.columns import Input, Table, u8, u32
from rallypoint.games.game import ColumnGame, GameInfo, message
from rallypoint.games.room import Placement, Room, Rooms

EXTRA: Final = "ledger=rallypoint.games.ledger:Ledger"
EXTRA_FREIGHT: Final = "freight=rallypoint.games.ledger:Freight"
FINISH: Final = 1
CRATES: Final = 4096


class Entries(Table):
    """One row per seat."""

    applied = u32()


class Clock(Table, rows=1):
    """The room's own time, which stands still with it."""

    ticks = u32()


class Mark(Input):
    """Something to count."""

    mark = u8()


class Ledger(ColumnGame):
    """Books without a game."""

    info = GameInfo(name="ledger", title="Ledger", max_players=4, tick_hz=20, input_hz=10)
    tables = (Entries, Clock)
    input = Mark

    def on_tick(self, rooms: Rooms) -> None:
        """Write down what was applied."""
        _write_down(rooms)

    @message(FINISH)
    def on_finish(self, room: Room, seat: int, body: bytes) -> None:
        """End the match."""
        _finish(room)


class Crates(Table, rows=CRATES):
    """State that is only carried along."""

    first = u32()
    second = u32()
    third = u32()
    fourth = u32()


class Freight(ColumnGame):
    """The same books, with a load."""

    info = GameInfo(name="freight", title="Freight", max_players=4, tick_hz=20, input_hz=10)
    tables = (Entries, Clock, Crates)
    input = Mark

    def on_create(self, room: Room) -> None:
        """Load crates full of numbers that have nothing in common."""
        numbers = np.arange(1, 4 * CRATES + 1, dtype="u4") * np.uint32(2654435761)
        for column, load in zip(
            room.table(Crates).arrays.values(), numbers.reshape(4, -1), strict=True
        ):
            column[:] = load

    def on_tick(self, rooms: Rooms) -> None:
        """Write down what was applied."""
        _write_down(rooms)

    @message(FINISH)
    def on_finish(self, room: Room, seat: int, body: bytes) -> None:
        """End the match."""
        _finish(room)


def _write_down(rooms: Rooms) -> None:
    rooms.table(Entries).applied += rooms.taken.astype("u4")
    rooms.table(Clock).ticks += 1


def _finish(room: Room) -> None:
    room.finish([Placement(other.slot, other.slot + 1) for other in room.seats])
