"""How the cluster knows this node: its record in KV `nodes` and a heartbeat each second.

The record expires 15 s after the last put and is put every 5 s; heartbeats go over core NATS and
are not repeated. While the broker is away both are skipped and rooms go on (decisions §3).
"""

import asyncio
import logging
from typing import Final

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects, waiting
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import NodeId
from rallypoint.room_state.node import Node

logger = logging.getLogger(__name__)

PUT_PERIOD_S: Final = 5.0
RECORD_TTL_S: Final = 15
HEARTBEAT_PERIOD_S: Final = 1.0
EDGE_PERIOD_S: Final = 0.05
"""The least time between two heartbeats, however often the node fills and empties."""


class Registration:
    """Keeps one node known."""

    def __init__(self, bus: Bus, node: Node) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.NODES.name)
        self._node = node
        self.record = events_pb2.NodeRecord()

    async def register(self) -> None:
        """Put the record once; raises what the bus raises."""
        self.record.draining = self._node.draining or self._node.tenure.agreed_to > 0
        key = subjects.node(NodeId(self.record.node_id))
        await self._kv.put(key, self.record.SerializeToString(), ttl_s=RECORD_TTL_S)

    async def try_register(self) -> None:
        """Put the record, or leave it to the next time."""
        try:
            await self.register()
        except errors.RallypointError as error:
            logger.info("registration_waits", extra={"reason": str(error)})

    async def leave(self) -> None:
        """Remove the record and say so, at the end of the process, when nothing runs any more."""
        try:
            await self._kv.purge(subjects.node(NodeId(self.record.node_id)))
            await self._beat(stopped=True)
        except errors.RallypointError as error:
            logger.info("deregistration_failed", extra={"reason": str(error)})

    async def run(self) -> None:
        """Put the record every 5 s."""
        while True:
            await asyncio.sleep(PUT_PERIOD_S)
            await self.try_register()

    async def beat(self) -> None:
        """Send a heartbeat each second, and when the node comes to be empty, full, or neither."""
        while True:
            self._node.crossed.clear()
            try:
                await self._beat()
            except errors.RallypointError:
                logger.debug("heartbeat_lost")
            await asyncio.sleep(EDGE_PERIOD_S)
            await waiting.happens(self._node.crossed, HEARTBEAT_PERIOD_S - EDGE_PERIOD_S)

    async def _beat(self, *, stopped: bool = False) -> None:
        beat = events_pb2.Heartbeat(
            node_id=self.record.node_id,
            incarnation=self.record.incarnation,
            rooms=len(self._node.rooms),
            players=self._node.players,
            stopped=stopped,
            retired_epoch=self._node.tenure.agreed_to,
        )
        subject = subjects.heartbeat(NodeId(self.record.node_id))
        await self._bus.publish(subject, beat.SerializeToString())
