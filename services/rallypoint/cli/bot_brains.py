"""How bots play: one brain per game, which sees what a player sees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from rallypoint.client import room, seat
from rallypoint.games import tictactoe
from rallypoint.kit import errors


class Brain(Protocol):
    """Plays one match."""

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """The tables changed; called from the network, so be quick."""

    async def play(self, connection: room.RoomConnection) -> None:
        """Play until cancelled."""


class Idle:
    """Sits there: for games nobody taught us."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """Nothing to see."""

    async def play(self, connection: room.RoomConnection) -> None:
        """Nothing to do."""


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


BRAINS: Mapping[str, Callable[[random.Random], Brain]] = {
    "tictactoe": TicTacToe,
    "idle": Idle,
}
