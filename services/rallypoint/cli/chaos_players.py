"""The players of `rallypoint bench chaos` and `moves`: each plays and checks what it is told.

A player sends ten inputs a second, whatever happens, and looks at every frame: the epoch never
goes back, no more inputs were applied than it was acknowledged for, the room does not end before
it is asked to. What it must not see becomes a line in `violations`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rallypoint.client import matchmaking, retry, room, seat, session
from rallypoint.games import ledger
from rallypoint.kit import errors

GAME = "ledger"
INPUT_PERIOD_S = 0.1
FINISH_PERIOD_S = 2.0


@dataclass(slots=True)
class Round:
    """What one player saw in one round."""

    longest_gap_s: float = 0.0
    """Between one frame and the next."""
    lost_ticks: int = 0
    """By how much the room's clock went back."""


@dataclass(slots=True)
class Witness:
    """What a player has seen; every frame comes through `on_step`."""

    name: str
    violations: list[str]
    clock: Callable[[], float] = time.monotonic
    frames: int = 0
    epoch: int = 0
    ticks: int = 0
    seen_at: float = 0.0
    now: Round = field(default_factory=Round)

    def begin(self) -> None:
        """Start a round."""
        self.now = Round()
        self.seen_at = self.clock()

    def quiet_s(self) -> float:
        """How long ago the last frame came."""
        return self.clock() - self.seen_at

    def gap_s(self) -> float:
        """The longest gap of the round, one that has not ended included."""
        return max(self.now.longest_gap_s, self.quiet_s())

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """A frame came."""
        at = self.clock()
        self.now.longest_gap_s = max(self.now.longest_gap_s, at - self.seen_at)
        self.seen_at = at
        self.frames += 1
        self._check_epoch(connection.seat.epoch)
        tables = connection.seat.tables
        self._check_books(int(tables["entries"]["applied"][connection.seat.slot]), stepped.ack)
        self._check_clock(int(tables["clock"]["ticks"][0]))

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self.epoch:
            self.violated(f"epoch {epoch} after {self.epoch}")
        self.epoch = max(self.epoch, epoch)

    def _check_books(self, applied: int, ack: int) -> None:
        if applied > ack:
            self.violated(f"{applied} inputs applied, {ack} acknowledged")

    def _check_clock(self, ticks: int) -> None:
        self.now.lost_ticks = max(self.now.lost_ticks, self.ticks - ticks)
        self.ticks = ticks

    def violated(self, what: str) -> None:
        """Note what must not happen."""
        self.violations.append(f"{self.name}: {what}")


class Player:
    """One player from the session to the result."""

    def __init__(self, url: str, name: str, violations: list[str], *, game: str = GAME) -> None:
        self.witness = Witness(name, violations)
        self.connection: room.RoomConnection | None = None
        self.rated = 0
        self._url = url
        self._game = game

    @property
    def playing(self) -> bool:
        """Whether frames come in."""
        return self.witness.frames > 0 and self.witness.quiet_s() < 0.5

    @property
    def room_id(self) -> str:
        """Its room."""
        return self.connection.seat.room_id if self.connection is not None else ""

    async def run(self, ending: asyncio.Event) -> None:
        """Play until `ending`, then finish the match and see it rated."""
        async with session.connect(self._url, name=self.witness.name, game=self._game) as player:
            calls = matchmaking.Matchmaking(player)
            assignment = await calls.find(self._game)
            async with room.RoomConnection(
                player, assignment.room_id, assignment.seat_token, on_step=self.witness.on_step
            ) as connection:
                await connection.wait_joined(within_s=30.0)
                self.connection = connection
                await self._play(connection, ending)
            await self._see_rated(calls)

    async def _play(self, connection: room.RoomConnection, ending: asyncio.Event) -> None:
        """Send inputs; the end of the match is checked when it comes."""
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(connection), name="inputs")
            over = tasks.create_task(_outcome(connection), name="over")
            asked = tasks.create_task(ending.wait(), name="asked")
            await asyncio.wait({over, asked}, return_when=asyncio.FIRST_COMPLETED)
            finishing = tasks.create_task(self._finish(connection, asked), name="finish")
            outcome = await over
            for task in (sending, asked, finishing):
                task.cancel()
        if not ending.is_set():
            self.witness.violated(f"the room ended: {outcome}")
        elif not isinstance(outcome, seat.Ended) or not outcome.result.placements:
            self.witness.violated(f"no result: {outcome}")

    async def _finish(self, connection: room.RoomConnection, asked: asyncio.Task[bool]) -> None:
        """Ask for the end until it comes: whoever has lost the room may have heard the first."""
        await asyncio.wait({asked})
        while True:
            with contextlib.suppress(errors.RallypointError):
                await connection.send_message(ledger.FINISH, b"")
            await asyncio.sleep(FINISH_PERIOD_S)

    async def _see_rated(self, calls: matchmaking.Matchmaking) -> None:
        """The match must count once, soon, and not again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30.0):
                while not self.rated:
                    self.rated = await self._matches(calls)
                    await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        self.rated = await self._matches(calls)
        if self.rated != 1:
            self.witness.violated(f"one match was rated {self.rated} times")

    async def _matches(self, calls: matchmaking.Matchmaking) -> int:
        """Matches rated; asked again while a broker is away."""
        backoff = retry.Backoff()
        for _ in range(20):
            try:
                return (await calls.rating(self._game)).matches
            except errors.RallypointError as error:
                await backoff.pause(error.retry_after_s)
        return 0


async def _send(connection: room.RoomConnection) -> None:
    while True:
        if connection.seat.schema is not None:
            connection.send_input({"mark": 1})
        await asyncio.sleep(INPUT_PERIOD_S)


async def _outcome(connection: room.RoomConnection) -> seat.Ended | errors.RallypointError:
    """How the match ended, or why it ended for us; an error is no group this way."""
    try:
        return await connection.wait_ended()
    except errors.RallypointError as error:
        return error
