"""How bots play: one brain per game, which sees what a player sees."""

from __future__ import annotations

import asyncio
import cmath
import math
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from rallypoint.client import room, seat, send_clock
from rallypoint.games import schema, skirmish, tictactoe
from rallypoint.kit import errors


class Brain(Protocol):
    """Plays one match."""

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """The tables changed; called from the network, so be quick."""

    async def play(self, connection: room.RoomConnection) -> None:
        """Play until cancelled."""


class Restless:
    """Random inputs, least or most or none of each column: for games nobody taught us."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """Nothing to see."""

    async def play(self, connection: room.RoomConnection) -> None:
        """Hold something for half a second, then something else."""
        columns = connection.seat.schema.input if connection.seat.schema else ()
        while columns:
            held = {column.name: self._rng.choice(extremes(column)) for column in columns}
            for _ in range(10):
                connection.send_input(held)
                await asyncio.sleep(0.05)


def extremes(column: schema.ColumnSpec) -> tuple[float, float, float]:
    """The least, a middle and the greatest value; a game's own bounds do not go over the wire."""
    if column.kind.quantized:
        return column.minimum, (column.minimum + column.maximum) / 2, column.maximum
    if column.kind is schema.Kind.F32:
        return -1.0, 0.0, 1.0
    bits = 8 * column.kind.width
    if column.kind.wire.kind == "u":
        return 0, 0, 2**bits - 1
    return -(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1


class TicTacToe:
    """Random legal moves, after a moment of thought."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._stepped = asyncio.Event()

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """Look at the board again."""
        self._stepped.set()

    async def play(self, connection: room.RoomConnection) -> None:
        """Move whenever it is our turn."""
        while True:
            await self._stepped.wait()
            self._stepped.clear()
            cell = self._choose(connection)
            if cell is None:
                continue
            await asyncio.sleep(self._rng.uniform(0.1, 0.4))
            try:
                await connection.send_message(tictactoe.PLACE, bytes((cell,)))
            except errors.RallypointError:
                await asyncio.sleep(0.2)  # the game ended, or moved on: look again
                self._stepped.set()

    def _choose(self, connection: room.RoomConnection) -> int | None:
        tables = connection.seat.tables
        turn = tables["turn"]
        if not turn["deadline"][0] or turn["seat"][0] != connection.seat.slot:
            return None
        free = [cell for cell, mark in enumerate(tables["board"]["mark"]) if not mark]
        return self._rng.choice(free) if free else None


class Skirmish:
    """Goes after the nearest enemy, circles it, shoots when nothing is between; heals when low."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._side = rng.choice((-1, 1))
        self._skill = rng.uniform(0.3, 1.0)

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """The brain looks when it acts."""

    async def play(self, connection: room.RoomConnection) -> None:
        """Act at the rate the game wants inputs."""
        welcome = await connection.wait_joined()
        period_s = 1 / max(1, welcome.input_hz)
        clock = send_clock.SendClock(tick_s=1 / welcome.tick_hz)
        heard = 0
        while True:
            connection.send_input(self._act(connection), view_tick=connection.seat.tick)
            if self._rng.random() < period_s / 2:  # turn the other way every two seconds or so
                self._side = -self._side
            second = connection.seat.tick // welcome.tick_hz
            if second != heard and connection.seat.margin_ms is not None:
                heard = second
                clock.observe(connection.seat.margin_ms / 1000)
            await asyncio.sleep(period_s + clock.shift_s())

    def _act(self, connection: room.RoomConnection) -> dict[str, float]:
        players = connection.seat.values("players")
        slot = connection.seat.slot
        here = complex(players["x"][slot], players["y"][slot])
        health = players["health"].tolist()
        enemies = [
            complex(x, y)
            for n, (x, y) in enumerate(zip(players["x"], players["y"], strict=True))
            if n != slot and health[n]
        ]
        if not health[slot] or not enemies:
            return {}
        enemy = min(enemies, key=lambda there: abs(there - here))
        goal = self._goal(connection, here, enemy, health=health[slot])
        step = goal / max(abs(goal), 1e-9) * 100
        angle = cmath.phase(enemy - here) + self._rng.gauss(0.0, 0.25 * (1.1 - self._skill))
        return {
            "dx": round(step.real),
            "dy": round(step.imag),
            "aim": round(angle / math.tau * 65536) % 65536,
            "fire": abs(enemy - here) < SIGHT and clear(here, enemy),
        }

    def _goal(
        self, connection: room.RoomConnection, here: complex, enemy: complex, *, health: int
    ) -> complex:
        """The direction to go in."""
        if health <= skirmish.MAX_HEALTH // 2:
            items = connection.seat.values("items")
            healing = [
                complex(x, y)
                for x, y, kind in zip(items["x"], items["y"], items["kind"], strict=True)
                if kind == skirmish.HEALTH_ITEM
            ]
            if healing:
                return min(healing, key=lambda there: abs(there - here)) - here
        towards = enemy - here
        return towards if abs(towards) > CLOSE else towards * complex(0.2, self._side)


SIGHT = skirmish.SHOT_STEP * skirmish.SHOT_TICKS
CLOSE = 250.0


def clear(here: complex, there: complex) -> bool:
    """Whether no obstacle stands on the line between two places."""
    way = there - here
    length = max(abs(way), 1e-9)
    for x, y, radius in skirmish.OBSTACLES:
        to = (complex(x, y) - here) * (way / length).conjugate()
        if 0 < to.real < length and abs(to.imag) < radius:
            return False
    return True


BRAINS: Mapping[str, Callable[[random.Random], Brain]] = {
    "skirmish": Skirmish,
    "tictactoe": TicTacToe,
    "restless": Restless,
}
