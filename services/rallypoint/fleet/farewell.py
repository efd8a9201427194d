"""The end of rooms whose node cannot end them: a stored result is published, others are lost."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from rallypoint.fleet.claims import Claims
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import metrics, subjects
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.names import QueueName

logger = logging.getLogger(__name__)


class Farewell:
    """Ends rooms; every step may be repeated, and may be done by several processes."""

    def __init__(self, *, bus: Bus, claims: Claims, ownership: Ownership) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.OWNERS.name)
        self._claims = claims
        self._ownership = ownership

    async def finish(self, own: Own) -> bool:
        """Do for a dead owner what follows after its result was stored; False without a result."""
        entry = await self._kv.get(subjects.result_key(own.room_id))
        if entry is None or entry.value is None:
            return False
        try:
            result = events_pb2.ResultFact.FromString(entry.value)
        except DecodeError:
            logger.error("result_malformed", extra={"room": own.room_id})
            return False
        if result.queue:
            subject = subjects.result(QueueName(result.queue))
            await self._bus.publish_fact(subject, entry.value, msg_id=result.result.match_id)
        await self._tell(own, events_pb2.ROOM_EVENT_CLOSED, "")
        await self._forget(own, result=entry.value)
        metrics.FLEET_RESULTS_FINISHED.inc()
        logger.warning("result_finished", extra={"room": own.room_id})
        return True

    async def lose(self, own: Own, reason: str) -> None:
        """Give a room up: tell it, remove its keys, free its slot."""
        await self._tell(own, events_pb2.ROOM_EVENT_LOST, reason)
        if await self._forget(own):
            metrics.FLEET_ROOMS_LOST.inc()
            logger.warning("room_lost", extra={"room": own.room_id, "reason": reason})

    async def _tell(self, own: Own, event: events_pb2.RoomEvent.ValueType, reason: str) -> None:
        name: subjects.RoomEvent = "lost" if event == events_pb2.ROOM_EVENT_LOST else "closed"
        fact = events_pb2.RoomFact(
            room_id=own.room_id,
            event=event,
            node_id=own.place.partition("|")[0],
            epoch=own.epoch,
            reason=reason,
            set=own.set_name,
        )
        await self._bus.publish_fact(
            subjects.room(name, own.room_id),
            fact.SerializeToString(),
            msg_id=f"{name}.{own.room_id}.{own.epoch}",
        )

    async def _forget(self, own: Own, *, result: bytes = b"") -> bool:
        """Remove a room's keys and free its slot; False when it has moved on. A result stays a
        while: nobody has told the players of it."""
        fence = self._kv.fence(subjects.own(own.room_id), own.revision)
        key, kept_s = subjects.result_key(own.room_id), subjects.RESULT_KEPT_S
        gone = True
        try:
            await self._kv.purge(subjects.snapshot(own.room_id), fence=fence)
            if result:
                await self._kv.put(key, result, ttl_s=kept_s, fence=fence)
            else:
                await self._kv.purge(key, fence=fence)
            gone = await self._ownership.purge(own)
        except Conflict:
            gone = False
        await self._claims.release(own.set_name, own.room_id, max_epoch=own.epoch)
        return gone
