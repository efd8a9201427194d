"""One real API server for all tests of this stage, a namespace of its own for each.

With RALLYPOINT_TEST_KUBECONFIG it is the one named there (docs/cluster.md).
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.kit import errors
from rallypoint.probe import session, wish
from tests.kube import rights
from tests.kube.fleet_stack import Fleet, fleet, service
from tests.support import cgroups, loops
from tests.support.cluster import machines
from tests.support.cluster.network import Unavailable
from tests.support.controlled import controlled_api_server
from tests.support.kubernetes import ApiServer, Unusable, given, temporary_api_server

_numbers = itertools.count()
HERE = Path(__file__).parent
GIVEN = "RALLYPOINT_TEST_KUBECONFIG"
"""Not KUBECONFIG: most who run clusters export that, and tests must not run there unasked."""
LIMIT_S = 180

Runs = loops.Runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the limit count the tests, not the minutes in which the API server is first built."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S, func_only=True))


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """A real API server that all tests share: the one given, or one of our own."""
    if kubeconfig := os.environ.get(GIVEN):
        with tempfile.TemporaryDirectory(prefix="rallypoint-given-") as name:
            yield _given(Path(kubeconfig), Path(name))
        return
    if sys.platform != "linux":
        pytest.skip("kube-apiserver is started with Linux's parent-death signal")
    with temporary_api_server() as running:
        yield running


def _given(kubeconfig: Path, folder: Path) -> ApiServer:
    try:
        return given(kubeconfig, folder)
    except Unusable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def calls_us(server: ApiServer) -> None:
    """Skip where the API server cannot call this machine, as it calls webhooks."""
    if os.environ.get(GIVEN):
        pytest.skip(f"the API server of {GIVEN} cannot call this machine's loopback")


@pytest.fixture
def uncontrolled() -> None:
    """Skip where controllers make objects in every namespace."""
    if os.environ.get(GIVEN):
        pytest.skip(f"the cluster of {GIVEN} has controllers, whose ConfigMaps would be counted")


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
    if os.environ.get(GIVEN):
        pytest.skip(f"the nodes of {GIVEN} are not ours to break")
    with (
        tempfile.TemporaryDirectory(prefix="rallypoint-nodes-", ignore_cleanup_errors=True) as name,
        machines.cluster(Path(name)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def controlled() -> Iterator[ApiServer]:
    """An API server with its controllers, our kinds, and five nodes that only say so."""
    if sys.platform != "linux":
        pytest.skip("kube-apiserver is started with Linux's parent-death signal")
    with controlled_api_server(5) as running:
        yield running


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A nats-server and a redis-server that all tests share."""
    started = Brokers(tmp_path_factory.mktemp("brokers"))
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def allocator(brokers: Brokers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fleet that claims slots and moves rooms, whatever the set; where it listens."""
    where = f"127.0.0.1:{free_one()}"
    environment = {
        "RALLYPOINT_NATS_URL": brokers.nats.url,
        "RALLYPOINT_REDIS_URL": brokers.redis.url,
        "RALLYPOINT_GRPC_PORT": where.rpartition(":")[2],
    }
    with service("fleet", tmp_path_factory.mktemp("fleet"), environment):
        yield where


Fleets = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture
def fleets(controlled: ApiServer, brokers: Brokers, allocator: str, tmp_path: Path) -> Fleets:
    """Make a fleet in a namespace of its own: `async with fleets() as fleet`."""

    @asynccontextmanager
    async def made(**how: Any) -> AsyncIterator[Fleet]:
        name = f"test-{secrets.token_hex(4)}"
        controlled.does("create", "namespace", name)
        try:
            async with fleet(controlled, brokers, name, tmp_path, **how) as running:
                running.allocator = allocator
                may = rights.kubeconfig(controlled, "operator", name, tmp_path)
                running.kubeconfig = running.stack.enter_context(may)
                yield running
                for path in running.folder.glob("*.log"):
                    assert "forbidden: User" not in path.read_text(), path.read_text()
        finally:
            controlled.does("delete", "namespace", name, "--wait=false")

    return made


@pytest.fixture
def namespace(server: ApiServer) -> Iterator[str]:
    """A namespace that no other test uses."""
    name = f"test-{secrets.token_hex(3)}-{next(_numbers)}"
    server.does("create", "namespace", name)
    yield name
    if os.environ.get(GIVEN):
        server.does("delete", "namespace", name, "--wait=false")


@pytest.fixture
def bpf() -> None:
    """Skip where the probe cannot load its programs, with the reason."""
    if os.geteuid():
        pytest.skip("not root")
    if not shutil.which("ip") or not Path("/dev/net/tun").exists():
        pytest.skip("no ip (iproute2) or no /dev/net/tun")
    if cgroups.unified_root() is None:
        pytest.skip("no unified cgroup hierarchy")
    try:
        session.Session(wish.Wanted()).close()
    except errors.FailedPrecondition as error:
        pytest.skip(f"this machine refuses: {error.reason}")
