"""One player as a server meets it: session, queue, match, room, inputs, leave, and again.

Inputs are random but whole: every column between its bounds, held for a while as people do. Most
players read of a frame what acknowledges their inputs, in C where that was compiled, and do not
keep the tables, which the server cannot see; one in fifty decodes all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from loadtest.tally import Tally
from rallypoint.cli import bot_brains, bots
from rallypoint.client import matchmaking, retry, room, seat, session
from rallypoint.games import codec, schema
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2 as mm

try:
    from rallypoint.cli._load import glance as GLANCE
except ImportError:  # no compiler when it was installed
    GLANCE: seat.Glance | None = None  # type: ignore[no-redef]

ECHO_WITHIN_S = 2.0
"""An input that is not acknowledged by then has failed, though the room may still apply it."""
HELD_INPUTS = 10
WHOLE_EACH = 50
THINK_S = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Habits:
    """Where and what players play."""

    url: str
    queue: str
    game: str
    transport: str
    """The name in the statistics; the address's scheme decides."""
    leave_share: float = 0.0
    """The share of matches that a player leaves before their end."""


class Timed(room.RoomConnection):
    """A seat whose messages are timed; games of turns have no inputs."""

    tally: Tally
    transport: str

    async def send_message(self, kind: int, body: bytes, *, tries: int = 5) -> bytes:
        """Send one command and return the game's answer."""
        began_s = time.monotonic()
        answer = await super().send_message(kind, body, tries=tries)
        self.tally.took(self.transport, "message to answer", time.monotonic() - began_s)
        return answer


class Player:
    """Plays until cancelled. `send` is called at the game's rate from outside, see swarm."""

    def __init__(self, number: int, habits: Habits, tally: Tally) -> None:
        self.number = number
        self._habits = habits
        self._tally = tally
        self._rng = random.Random(secrets.randbits(64))
        self._backoff = retry.Backoff(rng=self._rng)
        self._secret = secrets.token_bytes(32)
        self._connection: room.RoomConnection | None = None
        self._brain: bot_brains.Brain | None = None
        self._packed: list[bytes] = []
        self._sent: dict[int, float] = {}
        self._acked = 0
        self._breaks = 0
        self._reconnect = asyncio.Event()

    @property
    def input_hz(self) -> int:
        """The rate that the present room wants; 0 outside."""
        connection = self._connection
        return connection.welcome.input_hz if connection and connection.welcome else 0

    async def live(self) -> None:
        """Match after match; what goes wrong is counted and tried again as a client would."""
        while True:
            try:
                async with self._session() as player:
                    while True:
                        await self._once(player)
                        self._backoff.reset()
                        await asyncio.sleep(self._rng.uniform(*THINK_S))
            except errors.RallypointError as error:
                await self._backoff.pause(error.retry_after_s)

    def reconnect(self) -> None:
        """Drop the stream and come back at once, as after a change of network."""
        if self._connection is not None:
            self._reconnect.set()

    def send(self) -> None:
        """Send the next input."""
        connection = self._connection
        if connection is None or connection.ended is not None or self._brain is not None:
            return
        known = connection.seat.schema
        if known is None or not known.input:
            return
        if not self._packed:
            values = {c.name: self._rng.choice(bot_brains.extremes(c)) for c in known.input}
            self._packed = [codec.pack_input(known.input, values)] * HELD_INPUTS
        self._sent[connection.send_packed(self._packed.pop())] = time.monotonic()

    def look(self) -> None:
        """Count what never came back, about twice a second."""
        connection = self._connection
        if connection is None:
            return
        for why in connection.breaks[self._breaks :]:
            self._failed("stream", why.partition(":")[0])
        self._breaks = len(connection.breaks)
        late_s = time.monotonic() - ECHO_WITHIN_S
        late = [seq for seq, sent_s in self._sent.items() if sent_s < late_s]
        for seq in late:
            del self._sent[seq]
        if late:
            self._tally.failed(
                self._habits.transport, "input to echo", "NOT_ECHOED", times=len(late)
            )

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[session.Session]:
        habits = self._habits
        async with contextlib.AsyncExitStack() as opened:
            with self._timed("open session"):
                player = await opened.enter_async_context(
                    session.connect(
                        habits.url,
                        name=f"load-{self.number}",
                        game=habits.game,
                        device_secret=self._secret,
                    )
                )
            yield player

    async def _once(self, player: session.Session) -> None:
        """One match, from the queue to its end or until we leave."""
        assignment = await self._queue(player)
        tokens, fresh, ends_s = [assignment.seat_token], True, time.monotonic() + self._stay_s()
        while tokens:
            tokens = await self._sit(player, assignment, tokens[0], fresh=fresh, ends_s=ends_s)
            fresh = False

    def _stay_s(self) -> float:
        leaves = self._rng.random() < self._habits.leave_share
        return self._rng.uniform(5.0, 30.0) if leaves else float("inf")

    async def _queue(self, player: session.Session) -> mm.Assignment:
        calls = matchmaking.Matchmaking(player)
        try:
            with self._timed("time to match"):
                return await calls.find(self._habits.queue)
        except asyncio.CancelledError:
            await bots.withdraw(calls, self._habits.queue)
            raise

    async def _sit(
        self,
        player: session.Session,
        assignment: mm.Assignment,
        token: bytes,
        *,
        fresh: bool,
        ends_s: float,
    ) -> list[bytes]:
        """Hold the seat; the tokens to come back with, or none when the match is over for us."""
        self._reconnect.clear()
        whole = (
            self.number % WHOLE_EACH == 0
            or self._habits.game not in bot_brains.BRAINS
            or self._habits.game == "tictactoe"
        )
        connection = Timed(
            player,
            assignment.room_id,
            token,
            on_step=self._on_step,
            only=None if whole else {schema.SEATS_TABLE},
            glance=None if whole else GLANCE,
        )
        connection.tally, connection.transport = self._tally, self._habits.transport
        async with connection:
            with self._timed("join" if fresh else "rejoin"):
                await connection.wait_joined()
            self._enter(connection)
            try:
                return await self._play(connection, ends_s)
            except asyncio.CancelledError:
                await bots.leave(connection)
                raise
            finally:
                self.look()
                self._connection = None
                self._sent.clear()

    def _enter(self, connection: room.RoomConnection) -> None:
        self._packed, self._acked, self._breaks = [], connection.seat.ack, 0
        known = connection.seat.schema
        has_inputs = known is not None and bool(known.input)
        make = bot_brains.BRAINS.get(self._habits.game)
        self._brain = make(self._rng) if make and not has_inputs else None
        self._connection = connection

    async def _play(self, connection: room.RoomConnection, ends_s: float) -> list[bytes]:
        ended = asyncio.ensure_future(connection.wait_ended())
        reconnect = asyncio.ensure_future(self._reconnect.wait())
        thinking = asyncio.ensure_future(self._think(connection))
        stay_s = None if ends_s == float("inf") else max(0.0, ends_s - time.monotonic())
        try:
            await asyncio.wait(
                {ended, reconnect}, timeout=stay_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in (ended, reconnect, thinking):
                wait.cancel()
            await asyncio.gather(ended, reconnect, thinking, return_exceptions=True)
        if ended.cancelled():
            if self._reconnect.is_set():
                return list(connection.seat.tokens)
            with self._timed("leave"):
                await connection.leave()
            return []
        self._judge(ended)
        return []

    async def _think(self, connection: room.RoomConnection) -> None:
        if self._brain is not None:
            await bots.think(self._brain, connection)

    def _judge(self, ended: asyncio.Future[seat.Ended]) -> None:
        """Count the match; raises what the seat was lost with."""
        with self._timed("match"):
            outcome = ended.result()
            if not outcome.result.placements:
                reason = outcome.reason or "NO_RESULT"
                raise errors.Aborted(reason, "the match ended without a result")

    def _on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        if self._brain is not None:
            self._brain.on_step(connection, stepped)
        if stepped.ack == self._acked or connection is not self._connection:
            return
        now_s = time.monotonic()
        for seq in range(self._acked + 1, stepped.ack + 1):
            if (sent_s := self._sent.pop(seq, None)) is not None:
                self._tally.took(self._habits.transport, "input to echo", now_s - sent_s)
        self._acked = stepped.ack

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        except errors.RallypointError as error:
            self._failed(name, error.reason)
            raise
        self._tally.took(self._habits.transport, name, time.monotonic() - began_s)

    def _failed(self, name: str, reason: str) -> None:
        self._tally.failed(self._habits.transport, name, reason)
