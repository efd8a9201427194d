"""Leases on a real nats-server: one holder, growing epochs, takeover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import lease as lease_module
from rallypoint.kit.bus import Bus
from rallypoint.kit.lease import Lease, LeaseRecord

Fresh = Callable[[str], str]


def _lease(bus: Bus, name: str, holder: str, incarnation: str) -> Lease:
    return Lease(
        bus.kv("leases"),
        epoch_kv=bus.kv("config"),
        name=name,
        holder=holder,
        incarnation=incarnation,
    )


def test_second_holder_waits_until_the_first_releases(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            name = fresh("queue")
            first, second = _lease(bus, name, "a", "1"), _lease(bus, name, "b", "1")
            epoch = await first.acquire()
            waiting = asyncio.create_task(second.acquire(), name="second")
            await asyncio.sleep(1.0)
            assert first.is_held
            assert not waiting.done()
            await first.release()
            assert await waiting > epoch
            assert (first.is_held, second.is_held) == (False, True)

    runs(scenario())


def test_new_incarnation_of_the_holder_takes_over_at_once(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            name = fresh("queue")
            old, new = _lease(bus, name, "a", "1"), _lease(bus, name, "a", "2")
            epoch = await old.acquire()
            keeping = asyncio.create_task(old.keep(), name="keep")
            async with asyncio.timeout(5):
                assert await new.acquire() == epoch + 1
            async with asyncio.timeout(30):
                await old.lost.wait()
                await keeping
            assert (old.is_held, new.is_held) == (False, True)

    runs(scenario())


def test_epoch_is_above_what_is_known_elsewhere(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            assert await _lease(bus, fresh("queue"), "a", "1").acquire(at_least=41) == 42

    runs(scenario())


def test_record_is_the_protobuf_message() -> None:
    record = LeaseRecord("matchmaking-1", "nonce", 300)
    message = events_pb2.LeaseRecord(holder="matchmaking-1", incarnation="nonce", epoch=300)
    assert lease_module.encode(record) == message.SerializeToString()
    assert lease_module.decode(message.SerializeToString()) == record


def test_crashed_holder_is_followed_after_its_ttl(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            name = fresh("queue")
            crashed, standby = _lease(bus, name, "a", "1"), _lease(bus, name, "b", "1")
            epoch = await crashed.acquire()
            async with asyncio.timeout(60):
                assert await standby.acquire() > epoch
            assert not crashed.is_held

    runs(scenario())
