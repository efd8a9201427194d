"""Drift: the lightest real-time work, what `rallypoint bench rooms --find-max` plays.

Not installed as a game: a room node runs it when `RALLYPOINT_EXTRA_GAMES` says so (`EXTRA`).

**Table** `players` (after `seats`, rows are seats): `x` `y` `vx` `vy` f32, units (per second).
**Input** at 10 Hz: `vx` `vy` f32 [-200, 200], the velocity wanted; a new one counts at once and
stays until the next, walls turn it round. No events, no messages, no options, no end but that
everybody has left. The Colyseus room under `loadtest/peers` does the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rallypoint.games.columns import Input, Table, f32
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.room import Placement, Room, Rooms, SeatState
from rallypoint.games.schema import Array

EXTRA: Final = "drift=rallypoint.games.drift:Drift"
SIZE: Final = 1000.0
SPEED: Final = 200.0


class Players(Table):
    """One row per seat."""

    x = f32()
    y = f32()
    vx = f32()
    vy = f32()


class Wanted(Input, idle="repeat"):
    """The velocity a player wants."""

    vx = f32(-SPEED, SPEED)
    vy = f32(-SPEED, SPEED)


class Drift(ColumnGame):
    """A box to drift in."""

    info = GameInfo(name="drift", title="Drift", max_players=8, tick_hz=20, input_hz=10)
    tables = (Players,)
    input = Wanted

    def on_join(self, room: Room, seat: int) -> None:
        """Start somewhere."""
        players = room.table(Players)
        players.x[seat] = room.dice.below(int(SIZE))
        players.y[seat] = room.dice.below(int(SIZE))

    def on_leave(self, room: Room, seat: int, reason: str) -> None:
        """Stop; the last one to leave ends the room."""
        players = room.table(Players)
        players.vx[seat] = players.vy[seat] = 0
        if all(room.seat_states[other.slot] == SeatState.LEFT for other in room.seats):
            room.finish([Placement(other.slot, 1) for other in room.seats], rated=False)

    def on_tick(self, rooms: Rooms) -> None:
        """Take the new wishes, move, turn round at the walls."""
        players, wanted = rooms.table(Players), rooms.input(Wanted)
        asked = rooms.taken > 0
        _move(players.x, players.vx, wanted.vx, asked=asked, dt_s=rooms.dt_s)
        _move(players.y, players.vy, wanted.vy, asked=asked, dt_s=rooms.dt_s)


def _move(at: Array, speed: Array, wanted: Array, *, asked: Array, dt_s: float) -> None:
    """One axis of everybody, in place."""
    np.copyto(speed, wanted, where=asked)
    at += speed * np.float32(dt_s)
    outside = (at < 0) | (at > SIZE)
    if np.count_nonzero(outside):
        np.negative(speed, out=speed, where=outside)
        np.minimum(np.maximum(at, 0), SIZE, out=at)
