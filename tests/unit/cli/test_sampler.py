"""The sampling profiler names what burns CPU."""

from __future__ import annotations

import time
from pathlib import Path

from rallypoint.cli import sampler


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_report_names_the_busy_function(tmp_path: Path) -> None:
    report = tmp_path / "service.txt"
    with sampler.sampled(report):
        burn(0.3)
    text = report.read_text()
    assert "samples" in text
    assert "cli/test_sampler.py burn" in text


def test_idle_process_still_writes_a_report(tmp_path: Path) -> None:
    report = tmp_path / "service.txt"
    with sampler.sampled(report):
        pass
    assert report.read_text().startswith("0 samples")
