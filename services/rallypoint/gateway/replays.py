"""Recordings played: to those who had a seat in the room, and to operators.

A recording is read from its stream as fast as the client reads it, or as it is asked for, and is
never held here. Reading costs a broker and this gateway, so only so many are played at a time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.gateway import calls, limits
from rallypoint.gateway.admin_access import Operators
from rallypoint.gateway.tokens import Session
from rallypoint.internal.v1.events_pb2 import ReplayFacts, ReplayRecord
from rallypoint.kit import errors, names, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.v1 import admin_pb2, replay_pb2

SERVICE = "/rallypoint.v1.ReplayService/"
ADMIN = "/rallypoint.v1.AdminService/"
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
KEEP_ALIVE_S = 5.0
LINGER_S = 2.0
"""How long the connection of a client that does not read is kept for the last word."""
PlayRequest = replay_pb2.PlayReplayRequest | admin_pb2.WatchReplayRequest
Answer = type[replay_pb2.PlayReplayResponse] | type[admin_pb2.WatchReplayResponse]


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Bounds of playing recordings and of watching rooms."""

    replays_max: int = 32
    """Recordings that this gateway plays to players at a time."""
    operator_replays_max: int = 8
    """The same for operators, who are let in however many play."""
    replay_speed_min: float = 1 / 16
    """The slowest paced play: a slower one would hold its place for hours."""
    replay_speed_max: float = 64.0
    """The fastest paced play; faster is not paced at all."""
    replay_pause_max_s: float = 10.0
    """The longest pause of paced play: the rest of a longer one is left out."""
    replay_stalled_max_s: float = 30.0
    """How long a chunk may wait for a client that does not read: then the play ends, and gives its
    place to others."""
    spectators_max: int = 1000
    """Spectators of all rooms at this gateway."""
    spectator_behind_max_s: float = 10.0
    """How long a spectator may be without a chunk because it reads too slowly: then it must go."""


class Replays:
    """The handlers."""

    def __init__(
        self,
        bus: Bus,
        operators: Operators,
        streams: limits.StreamLimit,
        *,
        clock: Callable[[], float],
        settings: ReplaySettings,
    ) -> None:
        self._bus = bus
        self._operators = operators
        self._streams = streams
        self._clock = clock
        self._settings = settings
        self._players = Places(settings.replays_max)
        self._watchers = Places(settings.operator_replays_max)

    def methods(self) -> list[calls.Method]:
        """What the edges serve; for operators nothing when there are none."""
        found: list[calls.Method] = [
            calls.StreamMethod(
                SERVICE + "PlayReplay",
                replay_pb2.PlayReplayRequest,
                replay_pb2.PlayReplayResponse,
                self.play,
            )
        ]
        if self._operators.exist:
            # Public to the guard: an operator has no player's session.
            found += [
                calls.UnaryMethod(
                    ADMIN + "ListReplays",
                    admin_pb2.ListReplaysRequest,
                    admin_pb2.ListReplaysResponse,
                    self.list,
                    public=True,
                ),
                calls.StreamMethod(
                    ADMIN + "WatchReplay",
                    admin_pb2.WatchReplayRequest,
                    admin_pb2.WatchReplayResponse,
                    self.watch,
                    public=True,
                ),
            ]
        return found

    async def play(
        self, call: calls.Call, request: replay_pb2.PlayReplayRequest, outlet: calls.Outlet
    ) -> None:
        """Play a recording to somebody who had a seat."""
        session: Session = call.session
        names.check_id(request.room_id, "room_id")
        with self._streams.held(session.player_id), self._players.held():
            await self._admit(request.room_id, session.player_id)
            await self._play(request, outlet, replay_pb2.PlayReplayResponse)

    async def watch(
        self, call: calls.Call, request: admin_pb2.WatchReplayRequest, outlet: calls.Outlet
    ) -> None:
        """Play a recording to an operator."""
        await self._operators.check(call)
        names.check_id(request.room_id, "room_id")
        with self._watchers.held():
            await self._play(request, outlet, admin_pb2.WatchReplayResponse)

    async def list(
        self, call: calls.Call, request: admin_pb2.ListReplaysRequest
    ) -> admin_pb2.ListReplaysResponse:
        """The newest recordings."""
        await self._operators.check(call)
        limit = min(request.limit or DEFAULT_LIMIT, MAX_LIMIT)
        found: deque[admin_pb2.ReplayListing] = deque(maxlen=limit)
        async for fact in self._bus.newest(subjects.REPLAY.name, subjects.ALL_REPLAYS):
            listing = _listing(fact.subject, fact.headers.get(subjects.REPLAY_FACTS, ""))
            if request.game in ("", listing.game):
                found.append(listing)
        return admin_pb2.ListReplaysResponse(replays=reversed(found))

    async def _admit(self, room_id: str, player_id: str) -> None:
        """Let a player pass who had a seat, once it tells nothing that players may not know."""
        data = await self._bus.last(subjects.REPLAY.name, subjects.replay(RoomId(room_id)))
        if data is None:
            raise _unknown()
        newest = ReplayRecord.FromString(data)
        if not await self._played(room_id, player_id, newest):
            raise errors.PermissionDenied("REPLAY_REFUSED", "a replay is for those who played")
        if newest.chunk.head.cells and not newest.chunk.last:
            own = await self._bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
            if own is not None:
                raise errors.FailedPrecondition(
                    "REPLAY_EARLY", "it shows more than players see, and the room still runs"
                )

    async def _played(self, room_id: str, player_id: str, newest: ReplayRecord) -> bool:
        """Whether the player had a seat; the newest record names all who had one."""
        if player_id in newest.players:
            return True
        async with contextlib.aclosing(self._records(room_id)) as records:
            first, _ = await anext(records)  # a node that died may have known more
        return player_id in first.players

    async def _records(self, room_id: str) -> AsyncGenerator[tuple[ReplayRecord, int], None]:
        """The records of a room, and how many follow on each."""
        stored = self._bus.stored(subjects.REPLAY.name, subjects.replay(RoomId(room_id)))
        async with contextlib.aclosing(stored) as facts:
            async for fact in facts:
                yield ReplayRecord.FromString(fact.data), fact.pending

    async def _play(self, request: PlayRequest, outlet: calls.Outlet, answer: Answer) -> None:
        pace = Pace(request.speed, self._settings, self._clock)
        begun = False
        async with contextlib.aclosing(self._records(request.room_id)) as records:
            async for record, more in records:
                begun = begun or record.chunk.last_tick >= request.from_tick or not more
                if not begun:
                    continue
                await pace.wait(record.chunk, outlet)
                await wait_read(outlet, within_s=self._settings.replay_stalled_max_s)
                outlet.send(answer(chunk=record.chunk, more=more).SerializeToString())
        if not begun:
            raise _unknown()


async def wait_read(outlet: calls.Outlet, *, within_s: float) -> None:
    """Wait until a client has read what it was sent; ResourceExhausted `SLOW_CONSUMER` when that
    takes too long, and the end of its connection, since it does not read of that either."""
    try:
        async with asyncio.timeout(within_s):
            await outlet.wait_writable()
    except TimeoutError:
        outlet.abandon(within_s=LINGER_S)
        raise errors.ResourceExhausted("SLOW_CONSUMER", "the replay is not read") from None


class Places:
    """So many recordings are played at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take a place meanwhile."""
        if self._taken >= self._most:
            raise errors.ResourceExhausted(
                "REPLAYS_EXCEEDED", "too many replays are played", retry_after_s=2.0
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Pace:
    """Waits until a chunk is due, when play is paced."""

    def __init__(self, speed: float, settings: ReplaySettings, clock: Callable[[], float]) -> None:
        least, most = settings.replay_speed_min, settings.replay_speed_max
        if speed and not least <= speed <= most:
            raise errors.InvalidArgument(
                "SPEED_INVALID", f"speed is 0, or from {least:g} to {most:g}"
            )
        self._speed = speed
        self._clock = clock
        self._pause_max_s = settings.replay_pause_max_s
        self._due = 0.0
        self._before_s = 0.0

    async def wait(self, chunk: replay_pb2.ReplayChunk, outlet: calls.Outlet) -> None:
        """Wait for a chunk's time, with keep-alives."""
        if not self._speed:
            return
        at_s = chunk.begin_time.ToNanoseconds() / 1e9
        pause_s = min(max(0.0, at_s - (self._before_s or at_s)), self._pause_max_s)
        self._before_s = at_s
        self._due = (self._due or self._clock()) + pause_s / self._speed
        while (left_s := self._due - self._clock()) > 0:
            await asyncio.sleep(min(left_s, KEEP_ALIVE_S))
            if left_s > KEEP_ALIVE_S:
                outlet.send(b"")


def _listing(subject: str, header: str) -> admin_pb2.ReplayListing:
    try:
        facts = ReplayFacts.FromString(base64.b64decode(header))
    except (DecodeError, ValueError):
        facts = ReplayFacts()
    return admin_pb2.ReplayListing(
        room_id=subject.rpartition(".")[2],
        game=facts.game,
        queue=facts.queue,
        create_time=Timestamp(seconds=facts.created_s),
        length_s=max(0.0, facts.at_s - facts.created_s),
        players=facts.players,
        ended=facts.ended,
    )


def _unknown() -> errors.NotFound:
    return errors.NotFound("REPLAY_UNKNOWN", "the room was not recorded, or too long ago")
