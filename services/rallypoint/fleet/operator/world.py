"""What the operator sees: caches of the API server, and the nodes that are heard over NATS.

Every replica keeps it, so that the next leader begins with a full view. What changes is told as
keys: of servers (`namespace/name`) and of sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rallypoint.fleet import resources
from rallypoint.fleet.domain import pods, workload
from rallypoint.fleet.domain.ears import Ears
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.domain.observed import Sight
from rallypoint.fleet.domain.workload import Machine, Pod
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.node_watch import NodeWatch
from rallypoint.fleet.operator.kinds import MACHINES, PODS, REVISIONS
from rallypoint.kit.bus import Bus
from rallypoint.kit.clock import Clock
from rallypoint.kube.api import Scope
from rallypoint.kube.domain.store import Change
from rallypoint.kube.informer import Informers

LOOK_S = 1.0
SILENCE_S = 3.2
DEATHS_KEPT_S = 600.0

Tell = Callable[[str], None]


def set_key(item: GameServer) -> str:
    """Return the key of a server's set."""
    return f"{item.metadata.namespace}/{item.spec.set_name}"


class Listeners:
    """Who is told of changes: nobody while another process leads."""

    def __init__(self) -> None:
        self._servers: list[Tell] = []
        self._sets: list[Tell] = []

    @contextmanager
    def added(self, *, server: Tell, set_: Tell) -> Iterator[None]:
        """Tell somebody, for a while."""
        self._servers.append(server)
        self._sets.append(set_)
        try:
            yield
        finally:
            self._servers.remove(server)
            self._sets.remove(set_)

    def tell_server(self, key: str) -> None:
        """Say that a server looks different."""
        for tell in self._servers:
            tell(key)

    def tell_set(self, key: str) -> None:
        """Say that a set, or one of its servers, looks different."""
        for tell in self._sets:
            tell(key)


class World:
    """All that is seen."""

    def __init__(
        self, informers: Informers, *, namespace: str, bus: Bus, hosts: Hosts, clock: Clock
    ) -> None:
        ours = Scope(namespace, pods.SET)
        self.sets = informers.informer(resources.GAME_SERVER_SETS, Scope(namespace))
        self.servers = informers.informer(resources.GAME_SERVERS, Scope(namespace))
        self.pods = informers.informer(PODS, ours)
        self.revisions = informers.informer(REVISIONS, ours)
        self.machines = informers.informer(MACHINES)
        self.listeners = Listeners()
        self.registry = Registry()
        self.watch = NodeWatch(self.registry, bus=bus, hosts=hosts, clock=clock)
        self._bus, self._clock, self._hosts = bus, clock, hosts
        self.ears = Ears(clock.monotonic())
        self._index()

    def _index(self) -> None:
        self.servers.add_index("set", lambda item: (set_key(item),))
        self.servers.add_index("name", lambda item: (item.metadata.name,))
        self.pods.add_index("set", _set_of_pod)
        self.pods.add_index("machine", lambda pod: (pod.spec.node_name,))
        self.revisions.add_index(
            "set", lambda one: (f"{one.metadata.namespace}/{one.metadata.labels[pods.SET]}",)
        )
        self.sets.on_change(lambda change: self.listeners.tell_set(change.key))
        self.servers.on_change(self._on_server)
        self.pods.on_change(self._on_pod)
        self.machines.on_change(self._on_machine)
        self.watch.on_edge(self._on_edge)

    def _on_server(self, change: Change[GameServer]) -> None:
        self.listeners.tell_server(change.key)
        self.listeners.tell_set(set_key(change.present))

    def _on_pod(self, change: Change[Pod]) -> None:
        self.listeners.tell_server(change.key)
        for key in _set_of_pod(change.present):
            self.listeners.tell_set(key)

    def _on_machine(self, change: Change[Machine]) -> None:
        if workload.is_leaving(change.old) == workload.is_leaving(change.new):
            return
        for pod in self.pods.lister.by_index("machine", change.key):
            for key in _set_of_pod(pod):
                self.listeners.tell_set(key)

    def _on_edge(self, node: Node) -> None:
        self._changed(node.node_id)

    def _changed(self, node_id: str) -> None:
        for item in self.servers.lister.by_index("name", node_id):
            self.listeners.tell_server(item.key)
            self.listeners.tell_set(set_key(item))

    async def listen(self) -> None:
        """Follow registrations and heartbeats for ever."""
        await self.watch.follow_heartbeats()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch.follow_registrations(), name="operator.registrations")
            group.create_task(self._look(), name="operator.silence")
            group.create_task(self._bury(), name="operator.deaths")

    async def _look(self) -> None:
        """Notice who fell silent."""
        blind = True
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.monotonic()
            if not self._bus.is_connected:
                self.ears.deaf(now)
            before, blind = blind, self.ears.blind(now)
            if before and not blind:  # what was not derived from silence is so now
                for item in self.servers.lister:
                    self.listeners.tell_server(item.key)
            nodes = [one for name in self.registry.sets() for one in self.registry.sightings(name)]
            for node_id in self.ears.due(nodes, now, silence_s=SILENCE_S):
                self._changed(node_id)
            self.registry.forget_dead(now - DEATHS_KEPT_S)
            if self._hosts.addresses:
                await self._hosts.keep_only(self._addresses())

    def _addresses(self) -> set[str]:
        """Where servers that are there still can be called."""
        known = self.servers.lister
        return {
            node.address for node in self.registry.alive() if known.by_index("name", node.node_id)
        }

    async def _bury(self) -> None:
        """Deaths are told as edges too; what becomes of the rooms is the allocators' work."""
        while True:
            await self.watch.deaths.get()

    def sight(self, item: GameServer) -> Sight:
        """Return all that is seen of a server at this moment."""
        pod = self.pods.lister.by_key(item.key)
        if pod is not None and workload.controller_uid(pod.metadata) != item.metadata.uid:
            pod = None
        machine = None
        if pod is not None and pod.spec.node_name:
            machine = self.machines.lister.by_key(pod.spec.node_name)
        steady = self._clock.monotonic()
        return Sight(
            server=item,
            pod=pod,
            machine=machine,
            heard=self.registry.sighting(item.metadata.name),
            blind=self.ears.blind(steady),
            now=self._clock.now(),
            steady=steady,
        )

    def of_set(self, item: GameServerSet) -> list[GameServer]:
        """Return a set's servers; those of an earlier set of its name are not its own."""
        found = self.servers.lister.by_index("set", item.key)
        return [s for s in found if workload.controller_uid(s.metadata) == item.metadata.uid]

    def stray_pods(self, item: GameServerSet, servers: list[GameServer]) -> list[Pod]:
        """Return pods whose server is gone: their names are not free yet."""
        known = {one.metadata.uid for one in servers}
        found = self.pods.lister.by_index("set", item.key)
        return [p for p in found if workload.controller_uid(p.metadata) not in known]


def _set_of_pod(pod: Pod) -> tuple[str, ...]:
    name = pod.metadata.labels.get(pods.SET)
    return (f"{pod.metadata.namespace}/{name}",) if name else ()
