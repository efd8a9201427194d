"""The store on a real redis-server: scripts, loss of scripts, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.kit.store import Script, ScriptFailed, Store, StoreUnavailable

Fresh = Callable[[str], str]
ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def _script(store: Store, text: str) -> Script:
    return Script.of("test", text, store)


def test_script_runs_by_hash_and_is_loaded_when_missing(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (_, store):
            add = _script(store, ADD)
            assert await add(keys=["sum"], args=[2]) == 2
            await asyncio.to_thread(own_brokers.redis.restart)
            # Adding nothing may be tried again, also when only the answer was lost.
            assert await _retried(lambda: add(keys=["sum"], args=[0])) == 2

    runs(scenario())


def test_pipelined_scripts_answer_in_order(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            add, key = _script(store, ADD + " + 0"), fresh("sum")
            replies = await store.script_many([add.call(keys=[key], args=[n]) for n in (1, 2, 3)])
            assert replies == [1, 3, 6]

    runs(scenario())


def test_many_callers_share_few_connections(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            add, key = _script(store, ADD), fresh("sum")
            replies = await asyncio.gather(*(add(keys=[key], args=[1]) for _ in range(500)))
            assert sorted(replies) == list(range(1, 501))

    runs(scenario())


def test_refused_script_tells_its_error(runs: Runs, connected: Connect, brokers: Brokers) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            failing = _script(store, "return redis.error_reply('NO such thing')")
            with pytest.raises(ScriptFailed, match="NO such thing"):
                await failing(keys=["any"])

    runs(scenario())


def test_paused_server_is_unavailable_and_a_mutation_runs_at_most_once(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (_, store):
            add = _script(store, ADD)
            assert await add(keys=["sum"], args=[1]) == 1
            own_brokers.redis.pause()
            with pytest.raises(StoreUnavailable):
                await add(keys=["sum"], args=[1])
            own_brokers.redis.resume()
            assert await _retried(lambda: store.get("sum")) in (b"1", b"2")

    runs(scenario())


def test_acknowledged_writes_survive_a_killed_server(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (_, store):
            await store.hset("hash", {"a": 1, "b": "two"})
            late = (await store.info("persistence"))["aof_delayed_fsync"]
            own_brokers.redis.kill()
            with pytest.raises(StoreUnavailable):
                await store.get("anything")
            await asyncio.to_thread(own_brokers.redis.start)
            found = await _retried(lambda: store.hgetall("hash"))
            # Redis promises it while its disk keeps up.
            assert found == {b"a": b"1", b"b": b"two"}, f"{late} fsyncs were late"

    runs(scenario())


def test_plain_commands_answer_as_documented(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            key = fresh("plain")
            assert await store.set(key, "1", px_ms=10_000, nx=True)
            assert not await store.set(key, "2", nx=True)
            await store.zadd(key + "z", {"a": 1, "b": 2})
            assert await store.zrange(key + "z", 0, -1) == [b"a", b"b"]
            assert (await store.zrank(key + "z", "b"), await store.zrank(key + "z", "c")) == (
                1,
                None,
            )
            entry = await store.xadd(key + "x", {"f": "v"})
            assert await store.xrange(key + "x") == [(entry, {b"f": b"v"})]
            assert await store.xread({key + "x": "0"}) == [
                ((key + "x").encode(), [(entry, {b"f": b"v"})])
            ]
            assert await store.hmget(key + "h", ["absent"]) == [None]

    runs(scenario())


async def _retried(call: Callable[[], object]) -> object:
    for _ in range(100):
        try:
            return await call()  # type: ignore[misc]
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("Redis did not come back")
