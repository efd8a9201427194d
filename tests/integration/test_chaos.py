"""Chaos in its short form: each kind of fault once; `make chaos` is the long one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from rallypoint.cli import bench_chaos, chaos_plan

pytestmark = pytest.mark.alone

CUTS = [name for name, kind in chaos_plan.BY_NAME.items() if kind.action == "cut"]


def test_no_fault_loses_or_doubles_anything() -> None:
    kinds = tuple(kind for kind in chaos_plan.KINDS if kind.action != "cut")
    spec = bench_chaos.Spec(rounds=len(kinds), rooms=2, seed=11, kinds=kinds)
    report = asyncio.run(bench_chaos.measure(spec))
    assert report["violations"] == []
    assert report["rounds"] == len(kinds)
    assert report["results"] >= spec.rooms
    assert report["snapshots"] > spec.rooms


def test_no_cut_cable_loses_or_doubles_anything() -> None:
    """In a process of its own: it leaves the machine's network."""
    faults = [word for name in CUTS for word in ("--faults", name)]
    command = [sys.executable, "-m", "rallypoint", "bench", "chaos", *faults, "--json"]
    size = ["--rounds", str(len(CUTS)), "--rooms", "2", "--seed", "11"]
    done = subprocess.run(
        [*command, *size], capture_output=True, text=True, check=False, timeout=240
    )
    if not done.stdout and "network namespace" in done.stderr:
        pytest.skip(done.stderr.strip())
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert report["rounds"] == len(CUTS)
    assert report["results"] >= 2
