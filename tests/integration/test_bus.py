"""The bus on a real nats-server: facts, feeds, KV, fences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus, BusUnavailable, Conflict, Fact, Message
from rallypoint.kit.bus_acks import Acks, NoAnswer, Outgoing
from rallypoint.kit.bus_client import BusClient
from rallypoint.kit.bus_kv import Entry, Kv, Put
from rallypoint.kit.names import QueueName

Fresh = Callable[[str], str]


def test_messages_reach_a_subscriber_in_order(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            got: list[bytes] = []
            subject = fresh("core")
            await bus.subscribe(subject, lambda message: got.append(message.data))
            for number in range(100):
                await bus.publish(subject, b"%d" % number, {"number": str(number)})
            await until(lambda: len(got) == 100)
            assert got == [b"%d" % number for number in range(100)]

    runs(scenario())


def test_callback_that_raises_does_not_stop_the_next_message(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            got: list[bytes] = []

            def callback(message: Message) -> None:
                if message.data == b"bad":
                    raise ValueError("bad")
                got.append(message.data)

            subject = fresh("core")
            await bus.subscribe(subject, callback)
            await bus.publish(subject, b"bad")
            await bus.publish(subject, b"good")
            await until(lambda: got == [b"good"])

    runs(scenario())


def test_fact_published_twice_is_stored_once(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            subject = subjects.result(QueueName(fresh("queue")))
            first = await bus.publish_fact(subject, b"one", msg_id=subject)
            again = await bus.publish_fact(subject, b"one", msg_id=subject)
            assert again == first

    runs(scenario())


def test_ordered_feed_replays_then_follows(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            subject = subjects.result(QueueName(fresh("queue")))
            for number in range(5):
                await bus.publish_fact(subject, b"%d" % number, msg_id=f"{subject}{number}")
            feed = bus.ordered("RESULTS", subject)
            facts = [await anext(feed) for _ in range(5)]
            await bus.publish_fact(subject, b"5", msg_id=f"{subject}5")
            facts.append(await anext(feed))
            assert [fact.data for fact in facts] == [b"%d" % number for number in range(6)]
            assert (
                await anext(bus.ordered("RESULTS", subject, start_seq=facts[3].seq))
            ).data == b"3"

    runs(scenario())


def test_create_refuses_a_present_key_and_takes_a_purged_one(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, key = bus.kv("rooms"), fresh("own.")
            revision = await kv.create(key, b"one")
            with pytest.raises(Conflict):
                await kv.create(key, b"two")
            assert await kv.get(key) == Entry(key, b"one", revision)
            await kv.purge(key, revision=revision)
            assert await kv.get(key) is None
            assert await kv.create(key, b"three") > revision

    runs(scenario())


def test_update_and_purge_at_an_old_revision_are_refused(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, key = bus.kv("rooms"), fresh("own.")
            old = await kv.create(key, b"one")
            await kv.update(key, b"two", revision=old)
            with pytest.raises(Conflict):
                await kv.update(key, b"three", revision=old)
            with pytest.raises(Conflict):
                await kv.purge(key, revision=old)

    runs(scenario())


def test_fenced_write_is_refused_after_the_fence_moved(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, room = bus.kv("rooms"), fresh("room")
            revision = await kv.create(f"own.{room}", b"node-1")
            fence = kv.fence(f"own.{room}", revision)
            await kv.put(f"snap.{room}", b"state", fence=fence)
            await kv.update(f"own.{room}", b"node-2", revision=revision)
            with pytest.raises(Conflict):
                await kv.put(f"snap.{room}", b"stale", fence=fence)

    runs(scenario())


def test_each_of_many_writes_has_its_own_answer(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, name = bus.kv("rooms"), fresh("room")
            rooms = [f"{name}-{number}" for number in range(4)]
            puts = []
            for room in rooms:
                revision = await kv.create(f"own.{room}", b"node-1")
                puts.append(Put(f"snap.{room}", room.encode(), kv.fence(f"own.{room}", revision)))
            await kv.update(f"own.{rooms[1]}", b"node-2", revision=puts[1].fence.revision)
            puts[2] = puts[2]._replace(value=bytes(2 << 20))  # more than the server takes
            puts.append(puts[0]._replace(key="two words"))
            answers = await kv.put_all(puts)
            assert [type(answer) for answer in answers] == [
                int, Conflict, BusUnavailable, int, BusUnavailable
            ]  # fmt: skip
            entries = [await kv.get(f"snap.{room}") for room in rooms]
            assert [entry and (entry.value, entry.revision) for entry in entries] == [
                (rooms[0].encode(), answers[0]), None, None, (rooms[3].encode(), answers[3])
            ]  # fmt: skip
            assert await kv.put_all([]) == []

    runs(scenario())


def test_expired_key_is_seen_by_a_watch_and_can_be_created(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, key = bus.kv("nodes"), fresh("node")
            revision = await kv.create(key, b"one", ttl_s=1)
            watch = kv.watch(key)
            assert await anext(watch) == Entry(key, b"one", revision)
            assert (await anext(watch)).key == ""
            async with asyncio.timeout(30):
                assert (await anext(watch)).value is None
            assert await kv.get(key) is None
            assert await kv.create(key, b"two", ttl_s=1) > revision

    runs(scenario())


def test_update_with_ttl_keeps_a_key_alive(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, key = bus.kv("leases"), fresh("lease")
            revision = await kv.create(key, b"one", ttl_s=1)
            for _ in range(5):
                await asyncio.sleep(0.5)
                revision = await kv.update(key, b"one", revision=revision, ttl_s=2)
            assert await kv.get(key) == Entry(key, b"one", revision)

    runs(scenario())


def test_watch_lists_present_keys_then_changes(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, base = bus.kv("config"), fresh("watched")
            await kv.put(f"{base}.a", b"1")
            await kv.put(f"{base}.b", b"2")
            watch = kv.watch(f"{base}.*")
            listed = [await anext(watch) for _ in range(3)]
            assert [entry.key for entry in listed] == [f"{base}.a", f"{base}.b", ""]
            await kv.purge(f"{base}.a")
            gone = await anext(watch)
            assert (gone.key, gone.value) == (f"{base}.a", None)
            assert [entry.key for entry in await kv.entries(f"{base}.*")] == [f"{base}.b"]

    runs(scenario())


def test_watch_and_feed_survive_a_killed_server(
    runs: Runs, connected: Connect, own_brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            kv, subject = bus.kv("config"), subjects.result(QueueName("queue"))
            await kv.put("a", b"1")
            await kv.put("b", b"1")
            await bus.publish_fact(subject, b"0", msg_id="0")
            watch, feed = kv.watch(">"), bus.ordered("RESULTS", subject)
            assert [(await anext(watch)).key for _ in range(3)] == ["a", "b", ""]
            assert (await anext(feed)).data == b"0"
            await asyncio.to_thread(own_brokers.nats.restart)
            await _connected_again(bus)
            await _retried(kv, "a", b"2")
            await bus.publish_fact(subject, b"1", msg_id="1")
            assert await _next_value(watch, "a") == b"2"
            assert await _next_fact(feed) == b"1"

    runs(scenario())


def test_key_that_went_while_away_is_told_after_the_reconnect(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            kv = bus.kv("nodes")
            await kv.put("node-1", b"1", ttl_s=1)
            watch = kv.watch(">")
            assert [(await anext(watch)).key for _ in range(2)] == ["node-1", ""]
            own_brokers.nats.kill()
            await asyncio.sleep(2.0)
            await asyncio.to_thread(own_brokers.nats.start)
            assert await _next_value(watch, "node-1") is None

    runs(scenario())


def test_who_waits_for_an_answer_hears_at_once_that_the_server_is_gone(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            kv = bus.kv("config")
            await kv.put("x", b"1")
            own_brokers.nats.pause()
            asked = [asyncio.ensure_future(work) for work in (kv.get("x"), kv.put("x", b"2"))]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in asked)
            own_brokers.nats.kill()
            async with asyncio.timeout(3):  # less than a request waits for its answer
                answers = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(answer) for answer in answers] == [BusUnavailable] * 2
            await asyncio.to_thread(own_brokers.nats.start)
            async with asyncio.timeout(20):
                while not bus.is_connected:  # noqa: ASYNC110  # the client tells nobody
                    await asyncio.sleep(0.05)
            assert await kv.put("x", b"3")

    runs(scenario())


def test_paused_server_is_noticed_and_used_again(
    runs: Runs, connected: Connect, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            own_brokers.nats.pause()
            await until(lambda: not bus.is_connected, within_s=40.0)
            own_brokers.nats.resume()
            await _connected_again(bus)
            await _retried(bus.kv("config"), "a", b"1")

    runs(scenario())


async def _connected_again(bus: Bus) -> None:
    await until(lambda: bus.is_connected, within_s=30.0)


async def _retried(kv: Kv, key: str, value: bytes) -> None:
    from rallypoint.kit.bus import BusUnavailable

    for _ in range(50):
        try:
            await kv.put(key, value)
        except BusUnavailable:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("JetStream did not come back")


async def _next_value(watch: object, key: str) -> bytes | None:
    async with asyncio.timeout(30):
        async for entry in watch:  # type: ignore[attr-defined]
            if entry.key == key:
                value: bytes | None = entry.value
                return value
    raise AssertionError("the watch ended")


async def _next_fact(feed: object) -> bytes:
    async with asyncio.timeout(30):
        fact: Fact = await anext(feed)  # type: ignore[call-overload]
    return fact.data


def test_storing_gives_up_in_time_when_the_server_reads_nothing(
    runs: Runs, own_brokers: Brokers
) -> None:
    async def scenario() -> None:
        client = BusClient()
        await client.connect(own_brokers.nats.url)
        acks = Acks(client, "test")
        await acks.open()
        await client.flush()
        more_than_sockets_hold = [Outgoing("result.q", bytes(900_000), {})] * 40
        own_brokers.nats.pause()
        try:
            async with asyncio.timeout(20):
                answers = await acks.store(more_than_sockets_hold, timeout_s=0.5)
        finally:
            own_brokers.nats.resume()
        assert all(isinstance(answer, NoAnswer) for answer in answers)
        await client.close()

    runs(scenario())
