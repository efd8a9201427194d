"""`rallypoint bench edge`, small: its figures are there; nothing is said of their size."""

from __future__ import annotations

import json

import pytest

from rallypoint.cli import bench_edge

pytestmark = pytest.mark.alone


def test_bench_reports_both_kinds_of_work(capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--rounds", "1", "--seconds", "0.5", "--clients", "2", "--streams", "4", "--json"]
    assert bench_edge.run([*small, "--without-envoy"]) == 0
    report = json.loads(capfd.readouterr().out)
    unary, stream = (report["results"]["rallypoint"][kind] for kind in ("unary", "stream"))
    assert unary["errors"] == stream["errors"] == 0
    assert unary["cpu_us"] > 0
    assert stream["cpu_us"] > 0
    assert 0.5 < stream["delivered"] < 1.5
    assert report["machine"]["python"]
    assert "4 streams" in report["workload"]["stream"]
