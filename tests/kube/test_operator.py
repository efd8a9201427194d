"""The operator on a real API server: sets become servers become pods, and what people see of it."""

from __future__ import annotations

import asyncio

from rallypoint.fleet.domain.nodes import Node
from rallypoint.fleet.domain.pods import SET
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.operator.world import World
from rallypoint.kit.clock import SystemClock
from rallypoint.kube.informer import Informers
from tests.kube.conftest import Fleets, Runs


def test_a_set_becomes_ready_servers_and_tells_of_it(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=3)
            await fleet.ready(3)
            await fleet.until(lambda: fleet.status("ready_replicas") == 3, "the status")
            assert sorted(fleet.phases()) == [f"{fleet.name}-{n}" for n in range(3)]
            status = fleet.set.status
            assert status is not None
            assert (status.replicas, status.empty_replicas, status.updated_replicas) == (3, 3, 3)
            assert status.selector == f"{SET}={fleet.name}"
            assert status.observed_generation == fleet.set.metadata.generation
            await fleet.until(lambda: fleet.condition("Available") == "True", "Available")
            told = {one.reason for one in await fleet.events()}
            assert {"Scaled", "Ready"} <= told
            assert fleet.set.spec.replicas == 3

    runs(scenario())


def test_channels_to_servers_that_are_gone_are_closed(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        hosts = Hosts()
        async with fleets() as fleet, Informers(fleet.transport, manager="test") as informers:
            world = World(
                informers, namespace=fleet.namespace, bus=fleet.bus, hosts=hosts,
                clock=SystemClock(),
            )  # fmt: skip
            listening = asyncio.create_task(world.listen(), name="listen")
            await informers.wait_synced()
            fleet.operator()
            await fleet.apply(replicas=2, scaleIn={"minIdleSeconds": 0})
            await fleet.ready(2)

            def known() -> dict[str, Node]:
                nodes = map(world.registry.sighting, fleet.phases())
                return {one.node.address: one.node for one in nodes if one is not None}

            await fleet.until(lambda: len(known()) == 2, "two registrations")
            for node in known().values():
                await hosts.ping(node)
            assert hosts.addresses == known().keys()
            await fleet.scale(1)
            await fleet.ready(1)
            await fleet.until(lambda: hosts.addresses == known().keys(), "one channel")
            assert len(hosts.addresses) == 1
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await hosts.close()

    runs(scenario())
