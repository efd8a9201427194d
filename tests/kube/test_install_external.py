"""The chart with its operator on brokers, keys and certificates of somebody else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kube import chart_play, chart_stack, external_brokers
from tests.kube.chart_stack import INSTALL_S, Release
from tests.kube.conftest import Runs
from tests.support.cluster.machines import Cluster
from tests.support.cluster.network import run

CALLED = ("fleet", "matchmaking", "rooms")
SERVED = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 9090)))"


@pytest.mark.timeout(3 * INSTALL_S, func_only=True)
def test_chart_is_played_on_brokers_of_others_and_leaves_what_is_theirs(
    cluster: Cluster, runs: Runs, tmp_path: Path
) -> None:
    """Both brokers have TLS by a private CA, and ask their clients for certificates."""
    theirs: set[str] = set()

    def prepare(release: Release) -> tuple[str, ...]:
        values = external_brokers.prepare(release, tmp_path)
        theirs.update(release.left())
        return values

    wanted = ("operator.enabled=true", "probe.enabled=false")
    with chart_stack.installed(cluster, *wanted, prepare=prepare) as release:
        release.wait_servers()
        runs(chart_play.played(release.url))

        given = (tmp_path / "rallypoint.pem").read_text().strip()
        called = [pod for name in CALLED for pod in release.pods(name).values()]
        assert {served(cluster, pod) for pod in called} == {given}
        assert release.uninstall(theirs) == theirs


def served(cluster: Cluster, pod: dict[str, Any]) -> str:
    """The certificate that a pod shows to its node, which no policy keeps from its own pods."""
    (node,) = (node for node in cluster.nodes if node.name == pod["spec"]["nodeName"])
    words = [sys.executable, "-c", SERVED, pod["status"]["podIP"]]
    return run(words, place=node.host.network).strip()
