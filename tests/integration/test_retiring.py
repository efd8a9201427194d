"""What fleet hears of a real room node, and the node's own word before it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.integration.conftest import Runs
from tests.integration.rooms_stack import RunningNode, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.domain.nodes import Load, Node, Registry, Sighting
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.node_watch import NodeWatch
from rallypoint.kit import errors, rpc
from rallypoint.kit.clock import SystemClock

Fresh = Callable[[str], str]


@dataclass
class Watched:
    """A room node of one room, as fleet sees it."""

    node: RunningNode
    name: str
    registry: Registry
    hosts: Hosts
    edges: list[Node]

    @property
    def sighting(self) -> Sighting:
        found = self.registry.sighting(self.name)
        assert found is not None
        return found

    async def until_load(self, load: Load) -> None:
        await until(lambda: self.sighting.load == load)

    async def close(self, room: str) -> None:
        await self.hosts.close_room(self.sighting.node, room, "TEST", max_epoch=9)


@asynccontextmanager
async def watched(brokers: Brokers, name: str) -> AsyncIterator[Watched]:
    async with room_node(
        brokers, node_id=name, set_name=name, room_capacity=1, pod_uid="uid-1"
    ) as node:
        registry, hosts = Registry(), Hosts()
        watch = NodeWatch(registry, bus=node.bus, hosts=hosts, clock=SystemClock())
        seen = Watched(node, name, registry, hosts, [])
        watch.on_edge(lambda one: seen.edges.append(one) if one.node_id == name else None)
        await watch.follow_heartbeats()
        following = asyncio.create_task(watch.follow_registrations(), name="follow")
        try:
            await until(lambda: bool((one := registry.sighting(name)) and one.heard_at))
            yield seen
        finally:
            following.cancel()
            await hosts.close()


def test_fleet_hears_at_once_that_a_node_fills_and_empties(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with watched(brokers, fresh("set")) as fleet:
            assert fleet.sighting.node.pod_uid == "uid-1"
            assert fleet.sighting.empty_since is not None
            fleet.edges.clear()
            room = fresh("room")
            await fleet.node.create(room)
            await fleet.until_load(Load(rooms=1))
            assert (fleet.sighting.empty_since, len(fleet.edges)) == (None, 1)
            await fleet.close(room)
            await fleet.until_load(Load())
            assert len(fleet.edges) == 2

    runs(scenario())


def test_an_empty_node_agrees_to_its_end_and_keeps_to_it(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with watched(brokers, fresh("set")) as fleet:
            node = fleet.sighting.node
            await fleet.hosts.retire(node, epoch=3)
            await fleet.until_load(Load(retired_epoch=3))
            await until(lambda: fleet.sighting.node.draining)
            with pytest.raises(errors.FailedPrecondition, match="NODE_DRAINING"):
                await _created(fleet, fresh("room"))
            await fleet.hosts.retire(node, epoch=3)
            with pytest.raises(errors.Aborted, match="EPOCH_STALE"):
                await fleet.hosts.unretire(node, epoch=2)
            await fleet.hosts.unretire(node, epoch=4)
            await fleet.until_load(Load())
            await _created(fleet, fresh("room"))
            assert not fleet.sighting.node.draining

    runs(scenario())


def test_an_occupied_node_or_another_process_does_not_agree(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with watched(brokers, fresh("set")) as fleet:
            room = fresh("room")
            await fleet.node.create(room)
            with pytest.raises(errors.FailedPrecondition, match="NODE_OCCUPIED"):
                await fleet.hosts.retire(fleet.sighting.node, epoch=1)
            other = Node(fleet.name, "other", fleet.node.address, fleet.name, frozenset(), 1)
            with pytest.raises(errors.FailedPrecondition, match="INCARNATION_OTHER"):
                await fleet.hosts.retire(other, epoch=1)
            await fleet.close(room)
            await fleet.until_load(Load())
            await _retired(fleet, epoch=1)

    runs(scenario())


async def _created(fleet: Watched, room: str) -> None:
    async with rpc.calling():
        await fleet.node.create(room)


async def _retired(fleet: Watched, *, epoch: int) -> None:
    """The end of the last room may not be stored yet."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await fleet.hosts.retire(fleet.sighting.node, epoch=epoch)
            except errors.FailedPrecondition:
                await asyncio.sleep(0.05)
