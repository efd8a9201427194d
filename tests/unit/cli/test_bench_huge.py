"""The bench of one huge room plays it, and players get what is near within their budget."""

from rallypoint.cli import bench_huge


def test_bench_huge_plays_and_tells_figures() -> None:
    report = bench_huge.measure(
        bench_huge.Workload(players=150, crowd=100, kbps=64, input_hz=10, ticks=60, seed=1)
    )
    assert 0 < report["kbps_per_player"]["mean"] < 64 * 1.1
    assert report["others_seen"] > 10
    assert report["tick_ms"]["p50"] < 500
