"""Leading by a real Lease: one at a time, a cut leader stops before the next begins."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.domain.election import Terms
from rallypoint.kube.kinds import CONFIG_MAPS, LEASES
from rallypoint.kube.leader import Leader
from rallypoint.kube.transport import Transport
from tests.kube.conftest import Runs
from tests.kube.proxy import writes
from tests.kube.stack import config_map, connected, proxied, until
from tests.support.kubernetes import ApiServer

QUICK = Terms(duration_s=4, renew_s=2.5, retry_s=0.3)


def candidate(transport: Transport, namespace: str, identity: str) -> Leader:
    leases = Api(transport, LEASES, manager="election")
    return Leader(leases, "op", identity=identity, namespace=namespace, terms=QUICK)


def test_one_of_many_leads_and_another_follows_at_once(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport, AsyncExitStack() as stack:
            many = [candidate(transport, namespace, f"c{n}") for n in range(4)]
            for one in many[1:]:
                await stack.enter_async_context(one)
            await until(lambda: sum(one.leading for one in many) == 1)
            first = next(one for one in many if one.leading)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            await first.__aexit__()  # gives the lease back
            await until(lambda: sum(one.leading for one in many) == 1)
            assert loop.time() - begin < QUICK.duration_s
            assert not first.leading

    runs(scenario())


def test_a_leader_that_is_cut_off_stops_writing_before_the_next_begins(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            proxy, far = await stack.enter_async_context(proxied(server))
            near = await stack.enter_async_context(connected(server))
            async with candidate(far, namespace, "cut") as cut:
                await cut.wait_leading()
                gated = Api(far, CONFIG_MAPS, manager="op", gate=cut.gate)
                await gated.create(config_map("a", namespace))
                async with candidate(near, namespace, "next") as following:
                    await asyncio.sleep(QUICK.retry_s * 2)
                    assert not following.leading
                    proxy.fail(lambda _: True, delay_s=30, times=1000)
                    await cut.wait_ended()
                    assert not following.leading
                    written = proxy.count(writes)
                    with pytest.raises(errors.NotLeading, match="does not hold lease op"):
                        await gated.create(config_map("b", namespace))
                    assert proxy.count(writes) <= written + 1  # a renewal, never the write
                    await following.wait_leading()
                    assert following.transitions == 1

    runs(scenario())


def test_a_write_ends_before_the_lease_does(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport), AsyncExitStack() as stack:
            leader = candidate(transport, namespace, "slow")
            await stack.enter_async_context(leader)
            await leader.wait_leading()
            gated = Api(transport, CONFIG_MAPS, manager="op", gate=leader.gate)
            proxy.fail(lambda seen: "configmaps" in seen.path, delay_s=20)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            with pytest.raises(errors.Unavailable, match="no answer in time"):
                await gated.create(config_map("a", namespace))
            assert loop.time() - begin <= QUICK.renew_s + 0.5

    runs(scenario())
