"""Operators that die and API servers that fail: nothing twice, nothing lost, few requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import fields
from pathlib import Path

from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.operator.config import Settings
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.domain.store import Change
from rallypoint.kube.kinds import LEASES
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet
from tests.kube.proxy import Proxy, Seen, watches, writes
from tests.kube.stack import until

MANY = 24
DEFAULT_LEASE = {
    f"RALLYPOINT_{one.name.upper()}": str(one.default)
    for one in fields(Settings)
    if one.name in ("lease_s", "renew_s", "retry_s")
}
AT_ONCE = {"scaleIn": {"minIdleSeconds": 0}}


async def leader(fleet: Fleet) -> str:
    """Who holds the lease."""
    leases = Api(fleet.transport, LEASES, manager="test")
    found = await leases.get("rallypoint-operator", namespace=fleet.namespace)
    return str(found.spec.holder_identity)


def test_a_leader_killed_mid_scale_is_followed_and_nothing_is_done_twice(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            first = fleet.operator(RALLYPOINT_INSTANCE="first", **DEFAULT_LEASE)
            await fleet.apply(replicas=2, **AT_ONCE)
            await fleet.ready(2)
            room = f"{fleet.name}-r"
            busy = await fleet.allocate(room)
            fleet.troupe.plays = lambda _: False  # the rest is about objects
            second = fleet.operator(RALLYPOINT_INSTANCE="second", **DEFAULT_LEASE)
            made: Counter[str] = Counter()
            fleet.servers.on_change(lambda change: note(made, change))
            await fleet.servers_api.merge_patch(
                busy, {"spec": {"drain": True}}, namespace=fleet.namespace
            )
            await fleet.scale(MANY)
            await fleet.until(lambda: len(fleet.phases()) >= 5, "a beginning")
            first.kill()
            there = await fleet.servers_api.list(Scope(fleet.namespace))
            assert len(there) < MANY
            # How soon the next one acts: `bench fleet --parts leader`.
            await fleet.until(lambda: len(fleet.phases()) >= MANY, f"{MANY} servers")
            assert (await leader(fleet)).startswith("second")
            assert second.popen.poll() is None
            await fleet.until(lambda: busy not in fleet.phases(), "the end of the drain")
            moved = await fleet.owner(room)
            assert moved != busy
            assert max(made.values()) == 1, made
            ordinals = [one.spec.ordinal for one in fleet.servers.lister]
            assert len(ordinals) == len(set(ordinals))

    runs(scenario())


def note(made: Counter[str], change: Change[GameServer]) -> None:
    """Count objects of each name."""
    if change.old is None and change.new is not None:
        made[change.new.metadata.name] += 1


def of_servers(seen: Seen) -> bool:
    """Match writes of servers and pods."""
    return writes(seen) and ("gameservers" in seen.path or "/pods" in seen.path)


async def is_silent(proxy: Proxy) -> bool:
    """Whether nobody writes servers or pods for two seconds."""
    known = proxy.count(of_servers)
    await asyncio.sleep(2.0)
    return proxy.count(of_servers) == known


def test_through_refusals_cuts_and_stalls_a_set_converges_with_few_requests(
    runs: Runs, fleets: Fleets, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet, Proxy(fleet.cluster).running() as proxy:
            fleet.operator(kubeconfig=proxy.kubeconfig(tmp_path))
            await fleet.apply(replicas=2, **AT_ONCE)
            await fleet.ready(2)
            proxy.fail(of_servers, status=409, reason="Conflict", times=4)
            proxy.fail(of_servers, status=429, headers={"Retry-After": "1"}, times=3)
            proxy.fail(of_servers, status=500, times=4)
            proxy.fail(of_servers, lose_answer=True, times=3)
            proxy.fail(watches, status=410, reason="Expired", times=2)
            before = proxy.count(writes)
            await fleet.scale(5)
            await asyncio.sleep(0.5)
            await proxy.cut()
            proxy.stall()
            await asyncio.sleep(1.0)
            proxy.flow()
            await fleet.ready(5)
            await fleet.scale(2)
            await fleet.ready(2)
            await fleet.until(lambda: fleet.status("ready_replicas") == 2, "the status")
            await until(lambda: is_silent(proxy), "an end of writes")
            assert proxy.count(writes) - before < 150

    runs(scenario())
