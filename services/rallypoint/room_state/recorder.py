"""Stores the chunks of recorded rooms on the stream REPLAY, at its own pace.

Rooms never wait for it. What waits for a slow broker, or one that is away, is bounded by its bytes:
the oldest chunks are dropped first, and a chunk that could not be stored for a while is. Viewers
see a gap where a number is missing.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from typing import Final

from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.bus_wire import MSG_ID
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId
from rallypoint.room_state.recording import Cut

logger = logging.getLogger(__name__)

WRITERS: Final = 4
RETRY_S: Final = 0.25
GIVE_UP_S: Final = 30.0
LARGEST_BYTES: Final = 900_000
"""Above it the broker would refuse a message."""


class Recorder:
    """Takes chunks of all rooms of this node."""

    def __init__(self, bus: Bus, clock: Clock, *, pending_bytes: int) -> None:
        self._bus = bus
        self._limit = pending_bytes
        self._clock = clock
        self._waiting: deque[tuple[float, Cut]] = deque()
        self._bytes = 0
        self._busy: set[str] = set()
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
        self._waiting.append((self._clock.monotonic(), cut))
        self._bytes += cut.size
        while self._bytes > self._limit and len(self._waiting) > 1:
            self._drop(self._waiting.popleft()[1])
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Store what comes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                tasks.create_task(self._write_waiting(), name=f"recorder.{number}")

    async def flush(self, within_s: float) -> None:
        """Wait until nothing waits, or for so long."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("replay_unfinished", extra={"chunks": len(self._waiting)})

    async def _write_waiting(self) -> None:
        while True:
            while (found := self._next()) is None:
                self._wake.clear()
                await self._wake.wait()
            since, cut = found
            room_id = cut.chunk.room_id
            self._busy.add(room_id)
            try:
                await self._store(since, cut)
            finally:
                self._busy.discard(room_id)
                self._wake.set()
                if not self._waiting and not self._busy:
                    self._idle.set()

    def _next(self) -> tuple[float, Cut] | None:
        """The oldest chunk of a room that nobody is storing: those of one room stay in order."""
        for place, (_, cut) in enumerate(self._waiting):
            if cut.chunk.room_id not in self._busy:
                found = self._waiting[place]
                del self._waiting[place]
                self._bytes -= cut.size
                return found
        return None

    async def _store(self, since: float, cut: Cut) -> None:
        chunk, data = cut.chunk, cut.record()
        headers = {
            MSG_ID: f"{chunk.room_id}.{chunk.epoch}.{chunk.number}",
            subjects.REPLAY_FACTS: base64.b64encode(cut.facts.SerializeToString()).decode(),
        }
        while self._clock.monotonic() - since < GIVE_UP_S:
            try:
                await self._bus.store(subjects.replay(RoomId(chunk.room_id)), data, headers)
            except errors.RallypointError as error:
                logger.info("replay_waits", extra={"room": chunk.room_id, "reason": str(error)})
                await asyncio.sleep(RETRY_S)
            else:
                metrics.ROOM_REPLAY_CHUNKS.labels("stored").inc()
                metrics.ROOM_REPLAY_BYTES.inc(len(data))
                return
        metrics.ROOM_REPLAY_CHUNKS.labels("dropped").inc()

    def _drop(self, cut: Cut) -> None:
        self._bytes -= cut.size
        metrics.ROOM_REPLAY_CHUNKS.labels("dropped").inc()
