"""The bench runs; what it promises is asserted under ten times its caps."""

from __future__ import annotations

import pytest
from tests.kernel.conftest import EVERYTHING

from rallypoint.cli import bench_probe
from rallypoint.kit import errors
from rallypoint.probe import wish

pytestmark = pytest.mark.usefixtures("allowed")


def test_the_bench_tells_all_its_figures() -> None:
    try:
        report = bench_probe.measure(1, 4000, wish.Wanted(config=EVERYTHING))
    except errors.FailedPrecondition as error:
        pytest.skip(error.message)
    assert 0 < report["ns_per_run"] < 2500
    assert report["us_per_round_trip"] < 20
    assert 0 < report["verified_insns"] < 50_000
    assert 10 < report["rss_mb"] < 250
    assert 0 < report["load_s"] < 5
    assert "refused" in report["calls"] or 0 < report["calls"]["ns_per_run"] < 5000
