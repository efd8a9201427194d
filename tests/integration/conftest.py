"""Real brokers for the integration tests: shared ones for all, own ones for tests that kill them.

Tests run as coroutines on uvloop through `runs`; names of queues, sets and rooms come from
`fresh`, so that tests which share brokers never meet.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.support import loops
from tests.support.backends import VARIABLE, backends

from rallypoint.cli.brokers import Brokers
from rallypoint.kit.bus import Bus
from rallypoint.kit.store import Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A nats-server and a redis-server that all tests share. Never kill these."""
    started = Brokers(tmp_path_factory.mktemp("brokers"))
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def nats_url(brokers: Brokers) -> str:
    """Where the shared NATS is."""
    return brokers.nats.url


@pytest.fixture(scope="session")
def redis_url(brokers: Brokers) -> str:
    """Where the shared Redis is."""
    return brokers.redis.url


@pytest.fixture
def own_brokers(tmp_path: Path) -> Iterator[Brokers]:
    """Brokers of this test alone: kill, pause and restart them as you like."""
    started = Brokers(tmp_path / "brokers")
    started.start()
    yield started
    started.nats.resume()
    started.redis.resume()
    started.stop()


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """Make names that no other test uses: `fresh("queue")`."""
    run = secrets.token_hex(3)
    return lambda what: f"{what}-{run}-{next(_numbers)}"


Runs = loops.Runs


@pytest.fixture(params=backends())
def each_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test once with each backend of the gateway."""
    monkeypatch.setenv(VARIABLE, request.param)


Connect = Callable[[Brokers], AbstractAsyncContextManager[tuple[Bus, Store]]]


@pytest.fixture
def connected() -> Connect:
    """Open a supervised bus, with its streams and buckets made, and a store."""

    @asynccontextmanager
    async def open_both(brokers: Brokers) -> AsyncIterator[tuple[Bus, Store]]:
        bus = await Bus.connect(brokers.nats.url, name="test")
        await bus.ensure_topology()
        store = await Store.connect(brokers.redis.url)
        supervisor = asyncio.create_task(bus.supervise(), name="bus.supervise")
        try:
            yield bus, store
        finally:
            supervisor.cancel()
            await bus.close()
            await store.close()

    return open_both
