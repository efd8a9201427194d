"""The chart's small form on a real cluster, from nothing to nothing: rooms are a StatefulSet.

What is installed is the chart of an earlier commit, with the images of this checkout; then it is
upgraded to the present one, while somebody plays.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kube import chart_play, chart_stack
from tests.kube.chart_stack import INSTALL_S, Release
from tests.kube.conftest import Runs
from tests.support import chart
from tests.support.cluster.machines import Cluster
from tests.support.players import until

DUEL = f"matchmaking.queues.duel={chart_play.queue(2, 600)}"
REDIS = f"{chart.RELEASE}-rallypoint-redis"
AOF_OF_6 = "Successfully migrated an old-style AOF"
"""What the chart's Redis says once it has read the files of the earlier chart's."""


async def upgraded_during_a_match(release: Release) -> None:
    """Two players play on while everything is replaced beneath them, brokers too."""
    async with chart_play.duel(release.url) as players, chart_play.pushing(players):
        await until(lambda: all(len(player.seen.steps) > 40 for player in players))
        await asyncio.to_thread(release.upgrade, "logLevel=debug")
        await chart_play.frames(players)


@pytest.mark.timeout(4 * INSTALL_S, func_only=True)
def test_chart_is_installed_played_upgraded_and_removed(
    cluster: Cluster, runs: Runs, tmp_path: Path
) -> None:
    before = chart_stack.cluster_wide(cluster.server)
    earlier = chart.landed(chart.OLDEST, tmp_path)
    with chart_stack.installed(cluster, DUEL, source=earlier or chart.CHART) as release:
        keys = release.keys()
        runs(chart_play.played(release.url))

        runs(upgraded_during_a_match(release))

        assert release.keys() == keys
        if earlier:
            assert AOF_OF_6 in release.kubectl("logs", f"statefulset/{REDIS}")
        runs(chart_play.played(release.url))
        assert release.uninstall() == set()
        here = {f"namespace/{release.namespace}", f"namespace/{release.measured}"}
        assert chart_stack.cluster_wide(cluster.server) - before == here
    if earlier is None:
        pytest.skip(f"upgraded from the same chart: this clone does not have {chart.OLDEST}")
