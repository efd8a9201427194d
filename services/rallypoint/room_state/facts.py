"""Facts about rooms for JetStream (`room.<event>.<room_id>`), sent without making a tick wait.

A bounded queue and one task that retries while the broker is away; what comes within a moment goes
together. Overflow policy: the oldest fact is given up and counted; only `closed`, which gives
capacity back, does not go this way (`closing`).
"""

import asyncio
import itertools
import logging
from collections import deque
from typing import Final

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects, waiting
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.room_state.hosted import RoomIdentity

logger = logging.getLogger(__name__)

LIMIT: Final = 4096
RETRY_S: Final = 0.5
GATHER_S: Final = 0.05
BATCH: Final = 64
NAMES: Final[dict[int, subjects.RoomEvent]] = {
    events_pb2.ROOM_EVENT_CREATED: "created",
    events_pb2.ROOM_EVENT_JOINED: "joined",
    events_pb2.ROOM_EVENT_LEFT: "left",
    events_pb2.ROOM_EVENT_CLOSED: "closed",
    events_pb2.ROOM_EVENT_MIGRATED: "migrated",
}


class RoomFacts:
    """Tells the bus what happens in this node's rooms."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._queue: deque[events_pb2.RoomFact] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.given_up = 0

    def created(self, identity: RoomIdentity) -> None:
        """A room was made."""
        self._post(self.fact(identity, events_pb2.ROOM_EVENT_CREATED))

    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        """A player took a seat for the first time."""
        fact = self.fact(identity, events_pb2.ROOM_EVENT_JOINED)
        fact.player_id = player_id
        self._post(fact)

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        """A player is gone for good."""
        fact = self.fact(identity, events_pb2.ROOM_EVENT_LEFT)
        fact.player_id, fact.reason = player_id, reason
        self._post(fact)

    def migrated(self, identity: RoomIdentity) -> None:
        """A room came here from another node."""
        self._post(self.fact(identity, events_pb2.ROOM_EVENT_MIGRATED))

    def fact(
        self, identity: RoomIdentity, event: events_pb2.RoomEvent.ValueType
    ) -> events_pb2.RoomFact:
        """A fact about a room of this node."""
        return events_pb2.RoomFact(
            room_id=identity.room_id,
            event=event,
            node_id=self._node_id,
            epoch=identity.epoch,
            set=identity.set,
        )

    async def publish(self, fact: events_pb2.RoomFact) -> None:
        """Store one fact; raises what the bus raises."""
        subject, data, msg_id = _outgoing(fact)
        await self._bus.publish_fact(subject, data, msg_id=msg_id)

    async def run(self) -> None:
        """Publish what is queued, in order, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            while self._queue:
                batch = list(itertools.islice(self._queue, BATCH))
                answers = await self._bus.publish_facts([_outgoing(fact) for fact in batch])
                for fact, answer in zip(batch, answers, strict=True):
                    if isinstance(answer, errors.RallypointError):
                        logger.info("fact_waits", extra={"reason": str(answer)})
                        await asyncio.sleep(RETRY_S)
                        break  # what was stored after it is stored once, by its message id
                    if self._queue and self._queue[0] is fact:  # not given up meanwhile
                        self._queue.popleft()
            self._idle.set()

    async def flush(self, within_s: float) -> None:
        """Wait until nothing is queued, or for so long."""
        if not await waiting.happens(self._idle, within_s):
            logger.warning("facts_unfinished", extra={"facts": len(self._queue)})

    def _post(self, fact: events_pb2.RoomFact) -> None:
        if len(self._queue) >= LIMIT:
            self._queue.popleft()
            self.given_up += 1
        self._queue.append(fact)
        self._idle.clear()
        self._wake.set()


def _outgoing(fact: events_pb2.RoomFact) -> tuple[str, bytes, str]:
    """A fact's subject, data and message id."""
    name, room_id = NAMES[fact.event], RoomId(fact.room_id)
    msg_id = f"{fact.room_id}.{name}.{fact.epoch}.{fact.player_id}"
    return subjects.room(name, room_id), fact.SerializeToString(), msg_id
