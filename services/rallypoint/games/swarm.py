"""Swarm: a thousand players in one room who see those around: what `bench huge` plays.

Not installed as a game: a room node runs it when `RALLYPOINT_EXTRA_GAMES` says so (`EXTRA`).

**Table** `swarmers` (rows are seats, seen by cells of 200 units): `x` `y` q16 [0, 4000],
`vx` `vy` q8 [-100, 100], units per second, `alive` u8.
**Input** at 10 Hz: `vx` `vy` i8 [-100, 100], the velocity wanted. Walls turn it round. No events,
no messages, no options, no end but that everybody has left.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rallypoint.games.columns import Cells, Input, Table, flag, i8, q8, q16
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.room import Placement, Room, Rooms, SeatState
from rallypoint.games.schema import Array

EXTRA: Final = "swarm=rallypoint.games.swarm:Swarm"
NAME: Final = "swarm"
SIZE: Final = 4000.0
SPEED: Final = 100
VIEW: Final = 200.0
PLAYERS: Final = 1000


class Swarmers(Table, cells=Cells(radius=VIEW, x="x", y="y", alive="alive")):
    """One row per seat."""

    x = q16(0, SIZE)
    y = q16(0, SIZE)
    vx = q8(-SPEED, SPEED)
    vy = q8(-SPEED, SPEED)
    alive = flag()


class Heading(Input, idle="repeat"):
    """The velocity a player wants."""

    vx = i8(-SPEED, SPEED)
    vy = i8(-SPEED, SPEED)


class Swarm(ColumnGame):
    """A field to swarm over."""

    info = GameInfo(
        name=NAME, title="Swarm", max_players=PLAYERS, tick_hz=20, input_hz=10, late_join=True
    )
    tables = (Swarmers,)
    input = Heading

    def on_join(self, room: Room, seat: int) -> None:
        """Start somewhere."""
        swarmers = room.table(Swarmers)
        swarmers.x[seat] = room.dice.below(int(SIZE))
        swarmers.y[seat] = room.dice.below(int(SIZE))
        swarmers.alive[seat] = True

    def on_leave(self, room: Room, seat: int, reason: str) -> None:
        """Vanish; the last one to leave ends the room."""
        room.table(Swarmers).alive[seat] = False
        if all(room.seat_states[other.slot] == SeatState.LEFT for other in room.seats):
            room.finish([Placement(other.slot, 1) for other in room.seats], rated=False)

    def on_tick(self, rooms: Rooms) -> None:
        """Take the new wishes, move, turn round at the walls."""
        swarmers, heading = rooms.table(Swarmers), rooms.input(Heading)
        asked = rooms.taken > 0
        _move(swarmers.x, swarmers.vx, heading.vx, asked=asked, dt_s=rooms.dt_s)
        _move(swarmers.y, swarmers.vy, heading.vy, asked=asked, dt_s=rooms.dt_s)


def _move(at: Array, speed: Array, wanted: Array, *, asked: Array, dt_s: float) -> None:
    """One axis of everybody, in place."""
    np.copyto(speed, wanted, where=asked)
    at += speed * dt_s
    outside = (at < 0) | (at > SIZE)
    if np.count_nonzero(outside):
        np.negative(speed, out=speed, where=outside)
        np.minimum(np.maximum(at, 0), SIZE, out=at)
