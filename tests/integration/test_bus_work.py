"""Durable workers on a real nats-server: again, given up, held while something is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.kit import bus_wire, bus_work, errors, subjects
from rallypoint.kit.bus import Bus, Fact
from rallypoint.kit.names import QueueName

Fresh = Callable[[str], str]
CAP_S = 30.0


@pytest.fixture
def queue(fresh: Fresh) -> str:
    """A queue of this test alone: its results are what the workers get."""
    return fresh("queue")


async def _publish(bus: Bus, queue: str, *bodies: bytes) -> None:
    subject = subjects.result(QueueName(queue))
    for number, body in enumerate(bodies):
        await bus.publish_fact(subject, body, msg_id=f"{queue}.{number}")


async def _dead(bus: Bus, queue: str, count: int) -> list[Fact]:
    """Return `count` dead letters of a queue's workers, and fail if there are more."""
    feed = bus.ordered("DEAD", subjects.dead("RESULTS", queue))
    async with asyncio.timeout(CAP_S):
        found = [await anext(feed) for _ in range(count)]
    assert found[-1].pending == 0
    return found


@asynccontextmanager
async def _working(
    bus: Bus, queue: str, handle: Callable[[Fact], object], *, max_deliveries: int
) -> AsyncIterator[None]:
    async def call(facts: Sequence[Fact]) -> None:
        if len(facts) > 1:
            raise ValueError("these tests are about one at a time")
        handle(facts[0])

    subject = subjects.result(QueueName(queue))
    facts = bus.work(
        "RESULTS", subject, durable=queue, ack_wait_s=1.0, max_deliveries=max_deliveries
    )
    task = asyncio.create_task(bus_work.each(facts, call), name="worker")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_worker_gets_an_unacked_fact_again(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"one")
            subject = subjects.result(QueueName(queue))
            worker = bus.work("RESULTS", subject, durable=queue, ack_wait_s=1.0)
            (first,) = await anext(worker)
            await first.retry(0.0)
            (second,) = await anext(worker)
            assert (second.fact, second.deliveries) == (first.fact, 2)
            await second.ack()

    runs(scenario())


def test_poison_is_given_up_once_with_its_reason_and_the_others_go_on(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    done: list[bytes] = []
    tries: list[bytes] = []

    def handle(fact: Fact) -> None:
        if fact.data == b"poison":
            tries.append(fact.data)
            raise ValueError("I cannot\nread é this")
        done.append(fact.data)

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"one", b"poison", b"two")
            async with _working(bus, queue, handle, max_deliveries=2):
                (letter,) = await _dead(bus, queue, 1)
                await _publish(bus, queue, b"one", b"poison", b"two", b"three")
                await until(lambda: len(done) == 3, within_s=CAP_S)
                await asyncio.sleep(1.5)  # longer than the ack wait: nothing comes again
            await _dead(bus, queue, 1)
            assert done == [b"one", b"two", b"three"]
            assert len(tries) == 2
            assert letter.data == b"poison"
            assert letter.headers[bus_wire.DEAD_REASON] == "ValueError: I cannot read this"
            assert letter.headers[bus_wire.DEAD_SUBJECT] == f"result.{queue}"
            assert letter.headers[bus_wire.DEAD_DELIVERIES] == "2"

    runs(scenario())


def test_refused_fact_is_given_up_at_once(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    def handle(fact: Fact) -> None:
        raise errors.InvalidArgument("FACT_MALFORMED", "it is no result")

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"poison")
            async with _working(bus, queue, handle, max_deliveries=5):
                (letter,) = await _dead(bus, queue, 1)
            assert letter.headers[bus_wire.DEAD_REASON] == "FACT_MALFORMED: it is no result"
            assert letter.headers[bus_wire.DEAD_DELIVERIES] == "1"

    runs(scenario())


def test_fact_that_workers_die_of_is_given_up_and_the_next_one_is_not(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    done: list[tuple[bytes, int]] = []

    async def work_and_die() -> None:
        """Each connection is a process, which ends without a word when poison comes."""
        subject = subjects.result(QueueName(queue))
        while True:
            async with connected(brokers) as (bus, _):
                worker = bus.work(
                    "RESULTS", subject, durable=queue, ack_wait_s=1.0, max_deliveries=2
                )
                fact = b""
                while fact != b"poison":
                    for one in await anext(worker):
                        fact = one.fact.data
                        if fact == b"poison":
                            break
                        await one.ack()
                        done.append((fact, one.deliveries))

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"poison", b"good")
            workers = asyncio.create_task(work_and_die(), name="workers")
            (letter,) = await _dead(bus, queue, 1)
            assert letter.headers[bus_wire.DEAD_REASON] == bus_work.NO_WORD.format(2)
            await until(lambda: bool(done), within_s=CAP_S)
            workers.cancel()
            await asyncio.wait([workers])
        # The first one took both at once and died of the first; after that each came alone.
        assert done == [(b"good", 2)]

    runs(scenario())


def test_facts_that_are_there_are_held_and_done_together_and_a_bad_one_alone(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    tries: list[list[bytes]] = []

    async def handle(facts: Sequence[Fact]) -> None:
        tries.append([fact.data for fact in facts])
        if len(tries) == 1:
            raise errors.Unavailable("STORE_UNAVAILABLE")
        if b"poison" in tries[-1]:
            raise errors.InvalidArgument("FACT_MALFORMED", "it is no result")

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"one", b"poison", b"two")
            facts = bus.work("RESULTS", subjects.result(QueueName(queue)), durable=queue)
            worker = asyncio.create_task(bus_work.each(facts, handle), name="worker")
            await _dead(bus, queue, 1)
            await until(lambda: len(tries) == 5, within_s=CAP_S)
            worker.cancel()
            await asyncio.wait([worker])
        together = [b"one", b"poison", b"two"]
        assert tries == [together, together, [b"one"], [b"poison"], [b"two"]]

    runs(scenario())


def test_worker_waits_for_what_is_away_and_gives_nothing_up(
    runs: Runs, connected: Connect, brokers: Brokers, queue: str
) -> None:
    done: list[bytes] = []
    away = [True, True, True]

    def handle(fact: Fact) -> None:
        if away:
            away.pop()
            raise errors.Unavailable("STORE_UNAVAILABLE")
        done.append(fact.data)

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            await _publish(bus, queue, b"one", b"two", b"three")
            async with _working(bus, queue, handle, max_deliveries=1):
                await until(lambda: len(done) == 3, within_s=CAP_S)
            assert done == [b"one", b"two", b"three"]

    runs(scenario())
