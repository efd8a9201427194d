"""`rallypoint bench moves`, small: a room of 64 KB goes to and fro, and its players play on."""

from __future__ import annotations

import asyncio

from rallypoint.cli import bench_moves


def test_a_large_room_is_moved_and_nobody_notices() -> None:
    report = asyncio.run(bench_moves.measure(bench_moves.Spec(moves=4, game="freight")))
    assert report["violations"] == []
    assert report["moves"] == 4
    assert report["state_bytes"] > 64 * 1024
    assert report["gap_ms"]["p99"] < 10 * bench_moves.PROMISED_MS
