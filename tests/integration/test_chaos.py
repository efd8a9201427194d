"""Chaos in its short form: each kind of fault once; `make chaos` is the long one."""

from __future__ import annotations

import asyncio

from rallypoint.cli import bench_chaos, chaos_plan


def test_no_fault_loses_or_doubles_anything() -> None:
    kinds = chaos_plan.KINDS
    spec = bench_chaos.Spec(rounds=len(kinds), rooms=2, seed=11, kinds=kinds)
    report = asyncio.run(bench_chaos.measure(spec))
    assert report["violations"] == []
    assert report["rounds"] == len(kinds)
    assert report["results"] >= spec.rooms
    assert report["snapshots"] > spec.rooms
