"""`make cluster-install`: the chart on a person's cluster, where somebody plays; and once more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.kube import chart_play, chart_stack
from tests.kube.chart_stack import INSTALL_S
from tests.kube.conftest import Runs
from tests.support import chart, images
from tests.support.cluster import release
from tests.support.cluster.machines import Cluster
from tests.support.kubernetes import ApiServer


@pytest.fixture
def its_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that is as it was afterwards."""
    if reason := images.missing():
        pytest.skip(reason)
    yield cluster
    server = cluster.server
    where = ("--namespace", release.NAME, "--kubeconfig", str(server.kubeconfig))
    chart.helm("uninstall", release.NAME, *where, "--ignore-not-found")
    server.kubectl(*chart_stack.UNCONVERTED)
    server.kubectl("delete", "namespace", *release.LEVELS, "--wait=false")


def install(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> str:
    """Install as the command does; where it says to play."""
    release.install(cluster.server.kubeconfig, [node.host for node in cluster.nodes])
    (url,) = re.findall(r"(?m)^Play at +(\S+)$", capsys.readouterr().out)
    return str(url)


def pods(server: ApiServer) -> set[str]:
    """Which pods there are, but for game servers: those come and go with the players."""
    words = ("-l", "app.kubernetes.io/component!=rooms", "-o", "jsonpath={.items[*].metadata.uid}")
    return set(server.does("-n", release.NAME, "get", "pods", *words).split())


@pytest.mark.timeout(2 * INSTALL_S, func_only=True)
def test_chart_is_played_where_the_command_says_and_stays_when_nothing_changed(
    its_cluster: Cluster, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    url = install(its_cluster, capsys)
    runs(chart_play.played(url))
    before = pods(its_cluster.server)
    assert install(its_cluster, capsys) == url
    assert pods(its_cluster.server) == before
