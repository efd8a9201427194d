"""One real API server for all tests of this stage, a namespace of its own for each."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import loops
from tests.support.cluster import machines
from tests.support.cluster.network import Unavailable
from tests.support.kubernetes import ApiServer, temporary_api_server

_numbers = itertools.count()
HERE = Path(__file__).parent
LIMIT_S = 120
GOODBYE_S = 0.1

Runs = Callable[[Coroutine[Any, Any, None]], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the limit count the tests, not the minutes in which the API server is first built."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S, func_only=True))


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """A real API server that all tests share."""
    if sys.platform != "linux":
        pytest.skip("kube-apiserver is started with Linux's parent-death signal")
    with temporary_api_server() as running:
        yield running


@pytest.fixture(scope="session")
def can_run_nodes() -> None:
    """Skip, with the reason, where real nodes cannot run."""
    try:
        machines.refuse_missing()
    except Unavailable as reason:
        pytest.skip(f"no real nodes here: {reason}")


@pytest.fixture(scope="session")
def cluster(can_run_nodes: None) -> Iterator[machines.Cluster]:
    """A real cluster of two nodes that all tests share."""
    with (
        tempfile.TemporaryDirectory(prefix="rallypoint-nodes-", ignore_cleanup_errors=True) as name,
        machines.cluster(Path(name)) as running,
    ):
        yield running


@pytest.fixture
def namespace(server: ApiServer) -> str:
    """A namespace that no other test uses."""
    name = f"test-{secrets.token_hex(3)}-{next(_numbers)}"
    server.does("create", "namespace", name)
    return name


@pytest.fixture
def runs() -> Runs:
    """Run a test's coroutine to its end on a loop of its own."""

    async def whole(coroutine: Coroutine[Any, Any, None]) -> None:
        await coroutine
        # A TLS connection whose request was cancelled says goodbye, which needs the loop.
        await asyncio.sleep(GOODBYE_S)

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        loops.run(whole(coroutine))

    return run
