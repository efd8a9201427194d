"""What counts as flat over a soak."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rallypoint.cli import bench_scale, bench_soak
from rallypoint.cli.bench_trend import trend


def intervals(memory: list[float], p99: list[float]) -> list[dict[str, Any]]:
    return [{"rss_mb": mb, "p99_ms": ms} for mb, ms in zip(memory, p99, strict=True)]


def test_a_steady_leak_is_seen_and_noise_is_not() -> None:
    flat = [300.0 + (n % 3) for n in range(31)]
    leaking = [300.0 + n for n in range(31)]
    calm = [80.0 + 5 * (n % 2) for n in range(31)]
    assert bench_soak.verdict(intervals(flat, calm))["flat"]
    assert not bench_soak.verdict(intervals(leaking, calm))["flat"]
    assert not bench_soak.verdict(intervals(flat, [50.0 + 2 * n for n in range(31)]))["flat"]


def test_the_first_interval_does_not_count() -> None:
    assert bench_soak.verdict(intervals([100.0] + [300.0] * 5, [900.0] + [80.0] * 5))["flat"]


def test_an_interval_without_echoes_is_not_flat() -> None:
    rows = intervals([300.0] * 6, [80.0] * 6)
    for row in rows[2:]:
        row["p99_ms"] = None
    assert not bench_soak.verdict(rows)["flat"]


@given(
    level=st.floats(1, 1e4),
    spikes=st.dictionaries(st.integers(0, 29), st.floats(0, 1e4), max_size=6),
)
def test_a_fifth_of_spikes_moves_nothing(level: float, spikes: dict[int, float]) -> None:
    values = [level + spikes.get(n, 0.0) for n in range(30)]
    assert trend(values, share=0.0, least=0.0).growth == 0


def test_efficiency_is_the_ratio_of_costs() -> None:
    one = {"server_cpu_us_per_player_s": 300.0}
    assert bench_scale.efficiency(one, {"server_cpu_us_per_player_s": 320.0}) == 0.938
