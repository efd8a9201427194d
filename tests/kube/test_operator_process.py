"""The operator as a process: what it tells Prometheus, and how it ends while it leads."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rallypoint.cli import container
from rallypoint.cli.ports import free_one
from rallypoint.kube.api import Api
from rallypoint.kube.kinds import LEASES
from rallypoint.kube.objects import Lease
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet
from tests.support import images, prometheus
from tests.support.dashboards import Unanswered, shown_by

HERE = "tests/kube/test_operator_process.py"
LONG = {"RALLYPOINT_LEASE_S": "300", "RALLYPOINT_RENEW_S": "200"}
"""Longer than the test may take: who follows can do so only because the lease was given back."""
END_S = 15.0


async def lease(fleet: Fleet) -> Lease:
    """The operator's, with who holds it."""
    leases = Api(fleet.transport, LEASES, manager="test")
    return await leases.get("rallypoint-operator", namespace=fleet.namespace)


def test_dashboards_draw_what_the_operator_does(runs: Runs, fleets: Fleets, tmp_path: Path) -> None:
    prometheus.program("prometheus")
    port, unanswered = free_one(), Unanswered(shown_by(HERE))
    assert unanswered.left

    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator(RALLYPOINT_METRICS_PORT=str(port))
            with prometheus.running(tmp_path, {"operator": [f"127.0.0.1:{port}"]}) as served:
                await fleet.apply(replicas=1)
                await fleet.ready(1)
                await fleet.until(lambda: unanswered.ask(served), "figures")

    runs(scenario())


@pytest.fixture(scope="module")
def image() -> Iterator[container.Image]:
    """The image of all services."""
    if reason := images.missing() or container.missing():
        pytest.skip(reason)
    with container.unpacked(images.built(), "services") as unpacked:
        yield unpacked


def readable(kubeconfig: Path, folder: Path) -> Path:
    """A copy for the user of the image, with all that it names inside."""
    folder.mkdir()
    config = json.loads(kubeconfig.read_text())
    for one in config["clusters"]:
        authority = Path(one["cluster"].pop("certificate-authority")).read_bytes()
        one["cluster"]["certificate-authority-data"] = base64.b64encode(authority).decode()
    path = folder / kubeconfig.name
    path.write_text(json.dumps(config))
    path.chmod(0o644)
    return path


def test_operator_in_its_container_gives_the_lease_back_when_asked_to_end(
    runs: Runs, fleets: Fleets, image: container.Image, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            config = readable(fleet.kubeconfig, tmp_path / "given")
            environment = {
                **fleet.operator_environment(config), **LONG,
                "RALLYPOINT_METRICS_PORT": "0", "RALLYPOINT_GRPC_PORT": "0",
                "RALLYPOINT_INSTANCE": "first",
            }  # fmt: skip
            with image.started(
                ["operator"],
                environment=environment,
                shared=[config.parent],
                output=fleet.folder / "operator-first.log",
            ) as running:
                await fleet.apply(replicas=1)
                await fleet.ready(1)
                assert str((await lease(fleet)).spec.holder_identity).startswith("first")
                assert running.status()["NSpid"].split()[-1] == "1"

                running.signal(signal.SIGTERM)

                code = await asyncio.to_thread(running.wait, END_S)
                assert code == 0, running.output.read_text()
            assert (await lease(fleet)).spec.holder_identity in (None, "")
            fleet.operator(RALLYPOINT_INSTANCE="second", **LONG)
            await fleet.scale(2)
            await fleet.ready(2)
            assert str((await lease(fleet)).spec.holder_identity).startswith("second")

    runs(scenario())
