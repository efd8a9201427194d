"""Rooms that want players of their queue: `fill.<queue>.<room>`, written by the room's owner alone.

One look at all rooms each quarter of a second; a wish that changed is written, and each is written
again before it expires, under the fence of `own.<room>`. It names this node, where matchmaking has
the players seated (AddPlayers); what it counts is the room's: see `seating.admit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.names import QueueName, RoomId
from rallypoint.room_state.runner import Placed

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.25
AGAIN_S: Final = subjects.FILL_TTL_S / 3


class Backfills:
    """Keeps the wishes of this node's rooms true; `address` is where the node listens."""

    def __init__(self, bus: Bus, rooms: Callable[[], Iterable[Placed]], address: str) -> None:
        self._kv = bus.kv(subjects.OWNERS.name)
        self._rooms = rooms
        self._address = address
        self._said: dict[str, tuple[int, float]] = {}
        """How many a room wanted and when that was written, loop time."""

    async def run(self) -> None:
        """Look, for ever; a broker that is away is waited for."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except errors.RallypointError as error:
                logger.info("backfill_waits", extra={"reason": str(error)})

    async def look(self) -> None:
        """Write what changed, and what would expire."""
        now = asyncio.get_running_loop().time()
        here = {placed.room.identity.room_id: placed for placed in self._rooms()}
        self._said = {room_id: said for room_id, said in self._said.items() if room_id in here}
        for room_id, placed in here.items():
            seats = wanted(placed)
            before, at = self._said.get(room_id, (0, now))
            if seats != before or (seats and now - at >= AGAIN_S):
                await self._write(placed, seats)
                self._said[room_id] = (seats, now)

    async def _write(self, placed: Placed, seats: int) -> None:
        placed.room.wished = True
        identity = placed.room.identity
        room_id = RoomId(identity.room_id)
        fence = self._kv.fence(subjects.own(room_id), identity.own_revision)
        record = events_pb2.BackfillRecord(
            room_id=room_id, address=self._address, seats=seats, epoch=identity.epoch
        )
        key, ttl_s = subjects.fill(QueueName(identity.queue), room_id), subjects.FILL_TTL_S
        try:
            await self._kv.put(key, record.SerializeToString(), ttl_s=ttl_s, fence=fence)
        except Conflict:
            logger.info("backfill_fenced", extra={"room": room_id})


def wanted(placed: Placed) -> int:
    """How many players of its queue a room can take now and wants."""
    room = placed.room
    if not room.state.backfill or not room.identity.queue or not room.identity.own_revision:
        return 0
    if room.ended is not None or room.still is not None or room.state.locked:
        return 0
    if not placed.runner.definition.info.late_join:
        return 0
    return min(room.state.backfill, room.book.free)
