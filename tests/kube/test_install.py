"""The chart's small form on a real cluster, from nothing to nothing: rooms are a StatefulSet."""

from __future__ import annotations

import pytest

from tests.kube import chart_stack
from tests.kube.chart_stack import INSTALL_S, Release
from tests.kube.conftest import Runs
from tests.support.cluster.machines import Cluster
from tests.support.players import playing, until


@pytest.mark.timeout(3 * INSTALL_S, func_only=True)
def test_chart_is_installed_played_upgraded_and_removed(cluster: Cluster, runs: Runs) -> None:
    before = chart_stack.cluster_wide(cluster.server)
    with chart_stack.installed(cluster) as release:
        keys = release.keys()
        runs(played(release))

        release.upgrade("logLevel=debug")

        assert release.keys() == keys
        runs(played(release))
        assert release.uninstall() == set()
        here = {f"namespace/{release.namespace}", f"namespace/{release.measured}"}
        assert chart_stack.cluster_wide(cluster.server) - before == here


async def played(release: Release) -> None:
    """Two players in a match, for two seconds of it."""
    async with playing(release.url, "skirmish", "skirmish") as players:
        await until(lambda: all(len(player.seen.steps) > 40 for player in players))
        for player in players:
            player.seen.check()
            assert player.room.ended is None
