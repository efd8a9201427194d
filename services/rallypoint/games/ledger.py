"""Ledger: a game that keeps books of what it was given, for tests and `rallypoint bench chaos`.

Not installed as a game: a room node runs it when `RALLYPOINT_EXTRA_GAMES` says so (`EXTRA`).

**Table** `entries` (rows are seats): `applied` u32, how many inputs of the seat were ever applied.
**Table** `clock` (one row): `ticks` u32, how many ticks the room has lived.
Both are part of the room's state: after a recovery they say how much play was lost, and an input
applied twice shows as `applied` beyond the seq acknowledged. **Input** `mark` u8, of no meaning.
**Message** 1 `FINISH` ends the match; the first seats score highest.
"""

from __future__ import annotations

from typing import Final

from rallypoint.games.columns import Input, Table, u8, u32
from rallypoint.games.game import ColumnGame, GameInfo, message
from rallypoint.games.room import Placement, Room, Rooms

EXTRA: Final = "ledger=rallypoint.games.ledger:Ledger"
FINISH: Final = 1


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
        rooms.table(Entries).applied += rooms.taken.astype("u4")
        rooms.table(Clock).ticks += 1

    @message(FINISH)
    def on_finish(self, room: Room, seat: int, body: bytes) -> None:
        """End the match."""
        room.finish([Placement(other.slot, other.slot + 1) for other in room.seats])
