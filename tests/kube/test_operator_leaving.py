"""Servers go only when nobody plays there or was promised to: scale-in, drain, nodes, evictions."""

from __future__ import annotations

import asyncio

import pytest

from rallypoint.fleet.operator.kinds import MACHINES, PODS
from rallypoint.kit import errors as kit_errors
from rallypoint.kube import errors
from rallypoint.kube.api import Api
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet

AT_ONCE = {"scaleIn": {"minIdleSeconds": 0}}


async def placed(fleet: Fleet, rooms: list[str]) -> dict[str, str]:
    """Place rooms; those that no server has room for are left out."""

    async def one(room: str) -> tuple[str, str]:
        try:
            return room, await fleet.allocate(room)
        except (kit_errors.ResourceExhausted, kit_errors.Unavailable):
            return room, ""

    return {room: name for room, name in await asyncio.gather(*map(one, rooms)) if name}


def test_claims_that_race_a_scale_in_keep_their_servers(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets(capacity=2) as fleet:
            fleet.operator()
            await fleet.apply(replicas=5, **AT_ONCE)
            await fleet.ready(5)
            first = await placed(fleet, [f"{fleet.name}-a{n}" for n in range(2)])
            await fleet.scale(1)
            second: dict[str, str] = {}
            for n in range(6):
                second |= await placed(fleet, [f"{fleet.name}-b{n}"])
                await asyncio.sleep(0.1)
            rooms = first | second
            assert len(first) == 2
            busy = set(rooms.values())
            await fleet.until(lambda: set(fleet.phases()) == busy, f"only {busy} left")
            assert {room: await fleet.owner(room) for room in rooms} == rooms
            await fleet.until(lambda: fleet.status("replicas") == len(busy), "the status")
            for room in rooms:
                await fleet.release(room)
            await fleet.until(lambda: len(fleet.phases()) == 1, "one server left")
            assert fleet.set.spec.replicas == 1

    runs(scenario())


def test_a_cordoned_node_hands_its_rooms_over_and_is_empty(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=2)
            await fleet.ready(2)
            room = f"{fleet.name}-r"
            server = await fleet.allocate(room)
            before = fleet.pods.lister.get(server, namespace=fleet.namespace)
            assert before is not None
            machine = before.spec.node_name
            machines = Api(fleet.transport, MACHINES, manager="person")
            try:
                await machines.merge_patch(machine, {"spec": {"unschedulable": True}})
                await fleet.until(
                    lambda: all(p.spec.node_name != machine for p in fleet.pods.lister),
                    f"no pod on {machine}",
                )
                await fleet.ready(2)
            finally:
                await machines.merge_patch(machine, {"spec": {"unschedulable": None}})
            assert await fleet.owner(room) in fleet.phases()

    runs(scenario())


def test_a_drain_that_takes_too_long_ends_with_its_rooms_where_the_set_says_so(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=1, drain={"timeoutSeconds": 2, "onTimeout": "Force"})
            await fleet.ready(1)
            room = f"{fleet.name}-r"
            busy = await fleet.allocate(room)
            await fleet.until(lambda: fleet.phases().get(busy) == "Active", "an occupied server")
            uid = fleet.uid(busy)
            fleet.troupe.plays = lambda _: False  # there is nowhere for the room to go
            patch = {"spec": {"drain": True}}
            await fleet.servers_api.merge_patch(busy, patch, namespace=fleet.namespace)
            await fleet.until(lambda: fleet.phases().get(busy) == "Draining", "the drain")
            assert fleet.uid(busy) == uid
            await fleet.until(lambda: fleet.uid(busy) != uid, "its end")
            told = {one.reason: one.note for one in await fleet.events()}
            assert "ended with 1 rooms" in told["DrainForced"]

    runs(scenario())


def test_pods_may_be_evicted_while_empty_alone(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=2)
            await fleet.ready(2)
            room = f"{fleet.name}-r"
            busy = await fleet.allocate(room)
            empty = next(name for name in fleet.phases() if name != busy)
            before = fleet.uid(empty)

            def labelled(name: str) -> bool:
                pod = fleet.pods.lister.get(name, namespace=fleet.namespace)
                return pod is not None and "rallypoint.dev/occupied" in pod.metadata.labels

            await fleet.until(lambda: labelled(busy), "the label")
            with pytest.raises(errors.TooManyRequests):
                await evict(fleet, busy)
            await evict(fleet, empty)
            await fleet.until(lambda: fleet.uid(empty) != before, f"{empty} gone")
            await fleet.ready(2)
            await fleet.release(room)
            await fleet.until(lambda: not labelled(busy), "no label")
            await evict(fleet, busy)

    runs(scenario())


async def evict(fleet: Fleet, name: str) -> None:
    """Ask for an eviction, as a drain of a node does, until the budget is known."""
    pods = Api(fleet.transport, PODS, manager="person")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    await pods.post(name, "eviction", body, namespace=fleet.namespace)
