"""Stores the chunks of recorded rooms on the stream REPLAY, at its own pace.

Rooms never wait for it. Chunks of many rooms leave together, one of each: those of a room stay in
order. What waits for a slow broker, or one that is away, is bounded by its bytes: the oldest chunks
are dropped first, and a chunk that could not be stored for a while is. Viewers see a gap where a
number is missing.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from rallypoint.kit import errors, metrics, subjects, waiting
from rallypoint.kit.bus import Bus
from rallypoint.kit.bus_acks import Outgoing
from rallypoint.kit.bus_wire import MSG_ID
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId
from rallypoint.room_state.recording import Cut

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.2
"""Chunks that come within it leave together, which costs less."""
TOGETHER: Final = 64
RETRY_S: Final = 0.25
GIVE_UP_S: Final = 30.0
LARGEST_BYTES: Final = 900_000
"""Above it the broker would refuse a message."""


class _Waiting(NamedTuple):
    """A chunk and since when it waits."""

    since: float
    cut: Cut


class Recorder:
    """Takes chunks of all rooms of this node."""

    def __init__(self, bus: Bus, clock: Clock, *, pending_bytes: int) -> None:
        self._bus = bus
        self._limit = pending_bytes
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.now = clock.now
        """Unix time in seconds."""

    def put(self, cut: Cut) -> None:
        """Store a chunk soon, or drop the oldest that wait."""
        if cut.size > LARGEST_BYTES:
            metrics.ROOM_REPLAY_CHUNKS.labels("too_large").inc()
            return
        self._waiting.append(_Waiting(self._clock.monotonic(), cut))
        self._bytes += cut.size
        while self._bytes > self._limit and len(self._waiting) > 1:
            self._bytes -= self._waiting.pop(0).cut.size
            metrics.ROOM_REPLAY_CHUNKS.labels("dropped").inc()
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Store what comes, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            while self._waiting:
                if not await self._store(self._take()):
                    await asyncio.sleep(RETRY_S)
            self._idle.set()

    async def flush(self, within_s: float) -> None:
        """Wait until nothing waits, or for so long."""
        if not await waiting.happens(self._idle, within_s):
            logger.warning("replay_unfinished", extra={"chunks": len(self._waiting)})

    def _take(self) -> list[_Waiting]:
        """The oldest chunk of each room."""
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        rooms: set[str] = set()
        for item in self._waiting:
            room_id = item.cut.chunk.room_id
            if room_id in rooms or len(taken) == TOGETHER:
                left.append(item)
            else:
                taken.append(item)
                self._bytes -= item.cut.size
            rooms.add(room_id)
        self._waiting = left
        return taken

    async def _store(self, items: Sequence[_Waiting]) -> bool:
        """Store some; what failed waits again, in front. False when anything did."""
        messages = [_message(item.cut) for item in items]
        answers = await self._bus.store_all(messages)
        failed: list[_Waiting] = []
        for item, message, answer in zip(items, messages, answers, strict=True):
            if not isinstance(answer, errors.RallypointError):
                metrics.ROOM_REPLAY_CHUNKS.labels("stored").inc()
                metrics.ROOM_REPLAY_BYTES.inc(len(message.data))
            elif self._clock.monotonic() - item.since < GIVE_UP_S:
                failed.append(item)
                self._bytes += item.cut.size
            else:
                metrics.ROOM_REPLAY_CHUNKS.labels("dropped").inc()
        if failed:
            logger.info("replay_waits", extra={"chunks": len(failed)})
        self._waiting = failed + self._waiting
        return not failed


def _message(cut: Cut) -> Outgoing:
    chunk = cut.chunk
    headers = {
        MSG_ID: f"{chunk.room_id}.{chunk.epoch}.{chunk.number}",
        subjects.REPLAY_FACTS: base64.b64encode(cut.facts.SerializeToString()).decode(),
    }
    return Outgoing(subjects.replay(RoomId(chunk.room_id)), cut.record(), headers)
