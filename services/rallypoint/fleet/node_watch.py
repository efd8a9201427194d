"""Hears and calls the room nodes, feeds the registry, and hands on each death once.

Three sources: registrations in the KV bucket `nodes`, heartbeats on core NATS, and a Ping over gRPC
to every node each second, by which a node cut off from NATS knows that it is not given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from google.protobuf.message import DecodeError

from rallypoint.fleet.domain.nodes import Load, Node, Registry
from rallypoint.fleet.hosts import Hosts
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus, Message
from rallypoint.kit.clock import Clock

logger = logging.getLogger(__name__)

_REMEMBER_DEAD_S = 3600.0


class NodeWatch:
    """Keeps the registry true. `deaths` holds what died and was not dealt with yet."""

    def __init__(self, registry: Registry, *, bus: Bus, hosts: Hosts, clock: Clock) -> None:
        self._registry = registry
        self._bus = bus
        self._hosts = hosts
        self._clock = clock
        self.deaths: asyncio.Queue[Node] = asyncio.Queue()
        self.caught_up = asyncio.Event()
        self.registered = asyncio.Event()
        """Set whenever a node has registered, for the first time or anew."""
        self._on_edge: list[Callable[[Node], None]] = []

    def on_edge(self, callback: Callable[[Node], None]) -> None:
        """Call back at once when a node registers, changes, dies, comes to have its first room or
        none, to be full or not any more, or agrees to its end."""
        self._on_edge.append(callback)

    async def follow_registrations(self) -> None:
        """Take registrations as they come; sets `caught_up` after the first listing."""
        async for entry in self._bus.kv(subjects.NODES.name).watch(">"):
            if entry.key == "":
                self.caught_up.set()
            elif entry.value is None:
                with self._watched(entry.key):
                    self._registry.withdrawn(entry.key)
            elif (node := parse_node(entry.value)) is not None:
                with self._watched(node.node_id):
                    self._bury(self._registry.registered(node, self._clock.monotonic()))
                self.registered.set()

    @contextlib.contextmanager
    def _watched(self, node_id: str) -> Iterator[None]:
        """Tell who asked, should the node look different afterwards."""
        before = self._registry.sighting(node_id)
        yield
        now = self._registry.sighting(node_id)
        if now is not None and (before is None or before.edge != now.edge):
            self._tell(now.node)

    def _tell(self, node: Node) -> None:
        for callback in self._on_edge:
            callback(node)

    async def follow_heartbeats(self) -> None:
        """Start to take heartbeats; they keep coming in the background."""
        await self._bus.subscribe(subjects.HEARTBEATS, self._on_heartbeat)

    def _on_heartbeat(self, message: Message) -> None:
        beat = events_pb2.Heartbeat.FromString(message.data)
        now = self._clock.monotonic()
        if beat.stopped:
            self._bury(self._registry.stopped(beat.node_id, beat.incarnation, now))
            return
        load = Load(beat.rooms, beat.players, beat.retired_epoch)
        with self._watched(beat.node_id):
            self._bury(self._registry.beat(beat.node_id, beat.incarnation, load, now))

    async def ping_all(self) -> None:
        """Call every node once, all at the same time."""
        nodes = self._registry.alive()
        await asyncio.gather(*(self._ping(node) for node in nodes))
        self._registry.forget_dead(self._clock.monotonic() - _REMEMBER_DEAD_S)
        await self._hosts.keep_only({node.address for node in self._registry.alive()})

    async def _ping(self, node: Node) -> None:
        try:
            incarnation = await self._hosts.ping(node)
        except errors.RallypointError:
            now = self._clock.monotonic()
            self._bury(self._registry.not_answered(node.node_id, node.incarnation, now))
        else:
            now = self._clock.monotonic()
            self._bury(self._registry.answered(node.node_id, incarnation, now))

    def _bury(self, dead: list[Node]) -> None:
        for node in dead:
            self.deaths.put_nowait(node)
            self._tell(node)


def parse_node(value: bytes) -> Node | None:
    """Return the node of a registration; None, logged, for bytes that are none."""
    try:
        record = events_pb2.NodeRecord.FromString(value)
    except DecodeError:
        logger.error("registration_malformed")
        return None
    return Node(
        node_id=record.node_id,
        incarnation=record.incarnation,
        address=record.address,
        set_name=record.set,
        games=frozenset(record.games),
        capacity=record.capacity,
        draining=record.draining,
        pod_uid=record.pod_uid,
        labels=frozenset(record.labels.items()),
    )
