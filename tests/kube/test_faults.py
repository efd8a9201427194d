"""Whatever the way to the API server does, the cache converges, with few requests."""

from __future__ import annotations

import asyncio
import re

import pytest

from rallypoint.kube import errors
from rallypoint.kube.informer import Informer
from rallypoint.kube.objects import ConfigMap
from tests.kube.conftest import Runs
from tests.kube.proxy import Proxy, Seen, lists, watches, writes
from tests.kube.stack import (
    config_map,
    config_maps,
    connected,
    informed,
    proxied,
    until,
)
from tests.support.kubernetes import ApiServer

pytestmark = pytest.mark.usefixtures("uncontrolled")

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


async def fill(server: ApiServer, namespace: str, names: list[str], **data: str) -> None:
    """Write ConfigMaps past the proxy."""
    async with connected(server) as transport:
        api = config_maps(transport, "filler")
        await asyncio.gather(
            *(api.apply(name, {"data": data}, namespace=namespace) for name in names)
        )


def holds(informer: Informer[ConfigMap], names: list[str], **data: str) -> bool:
    """Tell whether exactly these are cached, with this data."""
    return {item.metadata.name: dict(item.data) for item in informer.lister} == {
        name: data for name in names
    }


NAMES = [f"c{n:02}" for n in range(20)]


def test_a_list_that_is_refused_and_slow_is_tried_again(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        await fill(server, namespace, NAMES, x="1")
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            proxy.fail(lists, status=429, headers={"Retry-After": "1"}, times=2)
            proxy.fail(lists, status=500, times=2)
            proxy.fail(lists, delay_s=0.5, times=2)
            await cache.wait_synced()
            assert holds(cache, NAMES, x="1")
            assert proxy.count(lists) <= 12  # three pages, four refusals, little else
            assert transport.window.limit < 16  # it was asked to slow down, and did

    runs(scenario())


def test_retry_after_is_waited_for(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport):
            proxy.fail(writes, status=429, headers={"Retry-After": "1"}, times=1)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            await config_maps(transport).create(config_map("a", namespace))
            assert loop.time() - begin >= 1.0
            assert proxy.count(writes) == 2
            proxy.fail(writes, status=429, headers={"Retry-After": "3600"}, times=1)
            with pytest.raises(errors.TooManyRequests) as caught:
                await config_maps(transport).create(config_map("b", namespace))
            assert caught.value.retry_after_s == 3600

    runs(scenario())


def test_a_cut_watch_resumes_without_a_list(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        await fill(server, namespace, NAMES, x="1")
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            await cache.wait_synced()
            await until(lambda: proxy.count(watches) == 1)
            listed = proxy.count(lists)
            for number in range(3):
                await proxy.cut()
                await fill(server, namespace, NAMES, x=f"cut {number}")
                await until(lambda n=number: holds(cache, NAMES, x=f"cut {n}"))  # type: ignore[misc]
            assert proxy.count(lists) == listed
            assert proxy.count(watches) <= 10

    runs(scenario())


def test_a_stalled_watch_is_noticed(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            await cache.wait_synced()
            await until(lambda: proxy.count(watches) >= 1)
            proxy.stall()
            await fill(server, namespace, NAMES, x="1")
            await until(lambda: cache.statistics().stalls >= 1, "the watchdog")
            assert len(cache.lister) == 0
            proxy.flow()
            await until(lambda: holds(cache, NAMES, x="1"))

    runs(scenario())


def test_a_forgotten_version_is_listed_again(runs: Runs, server: ApiServer, namespace: str) -> None:
    """What went meanwhile is gone from the cache as well, and its readers are told."""

    async def scenario() -> None:
        await fill(server, namespace, NAMES, x="1")
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            await cache.wait_synced()
            went: list[str] = []
            cache.on_change(lambda change: went.append(change.key) if not change.new else None)
            await until(lambda: proxy.count(watches) >= 1)
            proxy.stall()
            proxy.fail(watches, status=410, reason="Expired", times=2)
            async with connected(server) as direct:
                await config_maps(direct).delete(NAMES[0], namespace=namespace)
            await proxy.cut()
            await until(lambda: cache.statistics().expired == 2)
            proxy.flow()
            await until(lambda: holds(cache, NAMES[1:], x="1"))
            assert went == [f"{namespace}/{NAMES[0]}"]
            assert proxy.count(lists) <= 3 * 4

    runs(scenario())


def test_pages_that_expire_are_had_in_one_piece(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    def later_pages(seen: Seen) -> bool:
        return "continue" in seen.query

    async def scenario() -> None:
        await fill(server, namespace, NAMES, x="1")
        async with proxied(server) as (proxy, transport):
            proxy.fail(later_pages, status=410, reason="Expired", times=1000)
            async with informed(transport, namespace) as cache:
                await cache.wait_synced()
                assert holds(cache, NAMES, x="1")
                assert len(proxy.seen) <= 6

    runs(scenario())


def test_a_failing_server_sees_few_requests(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        await fill(server, namespace, NAMES, x="1")
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            await cache.wait_synced()
            before = len(proxy.seen)
            proxy.fail(lambda _: True, status=503, times=10_000)
            await proxy.cut()
            await asyncio.sleep(5)
            assert len(proxy.seen) - before <= 60  # half a second at most between tries here
            for fault in proxy.faults:
                fault.times = 0
            await fill(server, namespace, NAMES, x="2")
            await until(lambda: holds(cache, NAMES, x="2"))

    runs(scenario())


def test_a_lost_answer_to_a_write_is_told_and_not_repeated(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport):
            api = config_maps(transport)
            proxy.fail(writes, lose_answer=True)
            with pytest.raises(errors.Unavailable, match="cluster proxied: POST"):
                await api.create(config_map("a", namespace))
            assert proxy.count(writes) == 1
            with pytest.raises(errors.AlreadyExists):
                await api.create(config_map("a", namespace))

    runs(scenario())


def test_a_conflict_is_read_again_and_solved(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport):
            api = config_maps(transport)
            await api.create(config_map("a", namespace, x="1"))
            proxy.fail(writes, status=409, reason="Conflict", times=2)
            changed = await api.update(
                "a", lambda item: config_map_with(item, x="2"), namespace=namespace
            )
            assert changed.data == {"x": "2"}
            assert proxy.count(lambda seen: seen.method == "PATCH") == 3

    runs(scenario())


def config_map_with(item: ConfigMap, **data: str) -> ConfigMap:
    return ConfigMap(metadata=item.metadata, data=data)


def test_every_write_carries_a_trace(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport):
            api = config_maps(transport)
            made = await api.create(config_map("a", namespace))
            await api.apply("a", {"data": {"x": "1"}}, namespace=namespace)
            await api.merge_patch("a", {"data": {"y": "1"}}, namespace=namespace)
            await api.delete("a", namespace=namespace, uid=made.metadata.uid)
            written = [seen for seen in proxy.seen if writes(seen)]
            assert len(written) == 4
            traces = [seen.headers.get("traceparent", "") for seen in written]
            assert all(TRACEPARENT.fullmatch(trace) for trace in traces)

    runs(scenario())


def test_no_more_requests_are_under_way_than_allowed(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with proxied(server) as (proxy, transport):
            transport.window.limit = transport.window.most = 3.0
            proxy.fail(lambda _: True, delay_s=0.05, times=1000)
            api = config_maps(transport)
            calls = [api.create(config_map(f"c{n}", namespace)) for n in range(30)]
            await asyncio.gather(*calls)
            assert proxy.most_at_once <= 3

    runs(scenario())


def test_one_cluster_that_fails_hides_nothing_of_the_others(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    from rallypoint.kube.clusters import Clusters
    from rallypoint.kube.config import ClusterConfig, from_files
    from rallypoint.kube.transport import Patience

    async def scenario() -> None:
        away = ClusterConfig(name="away", server="http://127.0.0.1:9")
        configs = [from_files([server.kubeconfig]), away]
        async with Clusters(configs, patience=Patience(tries=1)) as clusters:
            answers = await clusters.ask(
                lambda transport: config_maps(transport).create(config_map("a", namespace))
            )
        assert list(answers.results) == ["test"]
        assert "cluster away: POST" in str(answers.failures["away"])

    runs(scenario())


def test_the_proxy_is_transparent_when_nothing_fails(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with Proxy(server).running() as proxy:
            assert proxy.url.startswith("http://127.0.0.1:")
        async with proxied(server) as (proxy, transport), informed(transport, namespace) as cache:
            await cache.wait_synced()
            made = await config_maps(transport).create(config_map("a", namespace, x="1"))
            await cache.wait_version(made.metadata.resource_version)
            assert holds(cache, ["a"], x="1")

    runs(scenario())
