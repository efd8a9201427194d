"""Spectators: the recording of a room that runs, followed some seconds late.

Spectators never reach a room's node: what they see comes from the stream REPLAY, read once per room
and gateway however many watch. A chunk is sent once its last frame is as old as the room's delay.
A spectator who reads too slowly misses chunks, each of which is whole by itself, and is sent away
when that goes on: neither the room nor who else watches waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from rallypoint.gateway import calls, limits
from rallypoint.gateway.replays import SERVICE, ReplaySettings
from rallypoint.gateway.rooms_list import RoomList
from rallypoint.gateway.tokens import Session
from rallypoint.internal.v1.events_pb2 import ReplayRecord, RoomInfo
from rallypoint.kit import errors, metrics, names, subjects
from rallypoint.kit.bus import Bus, Fact
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId
from rallypoint.v1 import replay_pb2

log = logging.getLogger(__name__)

LOOK_BACK_S: Final = 5.0
"""Longer than a chunk takes to be made and stored: a spectator's first picture is there at once."""
SILENCE_S: Final = 3.0
NOT_BEHIND: Final = 0.0
LINGER_S: Final = 2.0
"""How long the connection of a spectator that must go is kept for the last word."""
Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class Spectating:
    """The handler of SpectateRoom."""

    def __init__(
        self,
        bus: Bus,
        rooms: RoomList,
        streams: limits.StreamLimit,
        *,
        clock: Clock,
        spawn: Spawn,
        settings: ReplaySettings,
    ) -> None:
        self._bus = bus
        self._rooms = rooms
        self._streams = streams
        self._clock = clock
        self._spawn = spawn
        self._settings = settings
        self._tails: dict[str, _Tail] = {}
        metrics.GATEWAY_SPECTATORS.set_function(lambda: self.spectators)

    @property
    def spectators(self) -> int:
        """Spectators at this gateway."""
        return sum(len(tail.outlets) for tail in self._tails.values())

    def methods(self) -> list[calls.Method]:
        """What the edges serve."""
        return [
            calls.StreamMethod(
                SERVICE + "SpectateRoom",
                replay_pb2.SpectateRoomRequest,
                replay_pb2.SpectateRoomResponse,
                self.spectate,
            )
        ]

    async def spectate(
        self, call: calls.Call, request: replay_pb2.SpectateRoomRequest, outlet: calls.Outlet
    ) -> None:
        """Show a room until it ends or the spectator leaves."""
        session: Session = call.session
        room_id = names.check_id(request.room_id, "room_id")
        info = self._rooms.spectated(room_id)
        if info is None:
            raise await self._refusal(room_id)
        with self._streams.held(session.player_id), self._seated(room_id, info, outlet):
            await outlet.wait_closed()

    @contextlib.contextmanager
    def _seated(self, room_id: str, info: RoomInfo, outlet: calls.Outlet) -> Iterator[None]:
        tail = self._tails.get(room_id)
        there = 0 if tail is None else len(tail.outlets)
        if there >= info.spectators or self.spectators >= self._settings.spectators_max:
            raise errors.ResourceExhausted(
                "SPECTATORS_EXCEEDED", "too many watch already", retry_after_s=5.0
            )
        if tail is None:
            tail = self._tails[room_id] = _Tail(
                room_id,
                info.listing.spectate_delay_ms,
                self._clock,
                self._rooms,
                behind_max_s=self._settings.spectator_behind_max_s,
            )
            tail.task = self._spawn(self._follow(tail), f"spectate {room_id}")
        try:
            tail.enter(outlet)
            yield
        finally:
            tail.outlets.pop(outlet, None)
            if not tail.outlets:
                self._forget(tail)
                if tail.task is not None:
                    tail.task.cancel()

    async def _follow(self, tail: _Tail) -> None:
        try:
            await tail.run(self._bus)
        except Exception:
            log.exception("spectate_failed", extra={"room": tail.room_id})
        finally:
            self._forget(tail)
            for outlet in tuple(tail.outlets):
                outlet.end()

    def _forget(self, tail: _Tail) -> None:
        if self._tails.get(tail.room_id) is tail:
            del self._tails[tail.room_id]

    async def _refusal(self, room_id: str) -> errors.RallypointError:
        own = await self._bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
        if own is None:
            return errors.NotFound("ROOM_UNKNOWN", "there is no such room, or it has ended")
        return errors.PermissionDenied("SPECTATE_OFF", "the room lets no spectators in")


class _Tail:
    """One room's recording on its way to those who watch; `outlets` are their streams."""

    def __init__(
        self, room_id: str, delay_ms: int, clock: Clock, rooms: RoomList, *, behind_max_s: float
    ) -> None:
        self.room_id = room_id
        self.outlets: dict[calls.Outlet, float] = {}
        """Since when each is behind, unix time; 0 for who is not."""
        self._behind_max_s = behind_max_s
        self.task: asyncio.Task[None] | None = None
        self._delay_ms = delay_ms
        self._clock = clock
        self._rooms = rooms
        self._newest = b""
        self._known = (0, -1)

    def enter(self, outlet: calls.Outlet) -> None:
        """Let a spectator watch from the newest chunk on."""
        self.outlets[outlet] = NOT_BEHIND
        hello = replay_pb2.SpectateRoomResponse(delay_ms=self._delay_ms).SerializeToString()
        outlet.send(self._newest or hello)

    async def run(self, bus: Bus) -> None:
        """Send what is due until the room has ended."""
        since_s = self._clock.now() - self._delay_ms / 1000 - LOOK_BACK_S
        subject = subjects.replay(RoomId(self.room_id))
        feed = bus.ordered(subjects.REPLAY.name, subject, since_s=since_s)
        async with contextlib.aclosing(feed) as facts:
            coming = asyncio.ensure_future(anext(facts))
            try:
                while not await self._show(await self._next(coming)):
                    coming = asyncio.ensure_future(anext(facts))
            finally:
                coming.cancel()
                # A feed can only be closed once nobody waits for its next fact.
                await asyncio.gather(coming, return_exceptions=True)

    async def _next(self, coming: asyncio.Future[Fact]) -> Fact | None:
        """The next fact; None when the room is gone without a last one."""
        while True:
            done, _ = await asyncio.wait({coming}, timeout=SILENCE_S)
            if done:
                return coming.result()
            for outlet in tuple(self.outlets):
                self._send(outlet, b"")
            if self._rooms.spectated(self.room_id) is None:
                return None

    async def _show(self, fact: Fact | None) -> bool:
        """Send a chunk when its time has come; whether it was the last."""
        if fact is None:
            return True
        chunk = ReplayRecord.FromString(fact.data).chunk
        if (chunk.epoch, chunk.number) <= self._known:
            return False
        self._known = chunk.epoch, chunk.number
        _make_nameless(chunk)
        await asyncio.sleep(max(0.0, _end_s(chunk) + self._delay_ms / 1000 - self._clock.now()))
        answer = replay_pb2.SpectateRoomResponse(chunk=chunk, delay_ms=self._delay_ms)
        self._newest = answer.SerializeToString()
        for outlet in tuple(self.outlets):
            self._send(outlet, self._newest)
        return chunk.last

    def _send(self, outlet: calls.Outlet, message: bytes) -> None:
        """Send a message, unless something before it is still on its way."""
        if not outlet.unsent:
            self.outlets[outlet] = NOT_BEHIND
            outlet.send(message)
            return
        now_s = self._clock.now()
        since_s = self.outlets[outlet] = self.outlets[outlet] or now_s
        if now_s - since_s >= self._behind_max_s:
            outlet.end(errors.ResourceExhausted("SLOW_CONSUMER", "chunks were read too slowly"))
            outlet.abandon(within_s=LINGER_S)


def _make_nameless(chunk: replay_pb2.ReplayChunk) -> None:
    """Leave out the ids of players: spectators may be anybody."""
    for seat in chunk.head.seats:
        seat.player_id = ""
    for entry in chunk.entries:
        if entry.HasField("control"):
            for placement in entry.control.result.placements:
                placement.player_id = ""
            if entry.control.HasField("seat"):
                entry.control.seat.player_id = ""


def _end_s(chunk: replay_pb2.ReplayChunk) -> float:
    began_s = chunk.begin_time.ToNanoseconds() / 1e9
    ticks = max(0, chunk.last_tick - chunk.first_tick)
    return began_s + ticks / max(1, chunk.head.tick_hz)
