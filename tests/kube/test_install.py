"""The chart's small form on a real cluster, from nothing to nothing: rooms are a StatefulSet.

What is installed is the chart of an earlier commit, with the images of this checkout; then it is
upgraded to the present one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kube import chart_play, chart_stack
from tests.kube.chart_stack import INSTALL_S
from tests.kube.conftest import Runs
from tests.support import chart
from tests.support.cluster.machines import Cluster

REDIS = f"{chart.RELEASE}-rallypoint-redis"
AOF_OF_6 = "Successfully migrated an old-style AOF"
"""What the chart's Redis says once it has read the files of the earlier chart's."""


@pytest.mark.timeout(4 * INSTALL_S, func_only=True)
def test_chart_is_installed_played_upgraded_and_removed(
    cluster: Cluster, runs: Runs, tmp_path: Path
) -> None:
    before = chart_stack.cluster_wide(cluster.server)
    earlier = chart.landed(chart.OLDEST, tmp_path)
    with chart_stack.installed(cluster, source=earlier or chart.CHART) as release:
        keys = release.keys()
        runs(chart_play.played(release))

        release.upgrade("logLevel=debug")

        assert release.keys() == keys
        if earlier:
            assert AOF_OF_6 in release.kubectl("logs", f"statefulset/{REDIS}")
        runs(chart_play.played(release))
        assert release.uninstall() == set()
        here = {f"namespace/{release.namespace}", f"namespace/{release.measured}"}
        assert chart_stack.cluster_wide(cluster.server) - before == here
    if earlier is None:
        pytest.skip(f"upgraded from the same chart: this clone does not have {chart.OLDEST}")
