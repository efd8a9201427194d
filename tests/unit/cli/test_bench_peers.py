"""What `rallypoint bench peers` makes of its rounds."""

from __future__ import annotations

from typing import Any

from rallypoint.cli import bench_peers, bench_swarm


def row(cpu_us: float, **changes: Any) -> dict[str, Any]:
    return {
        "server_cpu_us_per_player_s": cpu_us,
        "server_cpu_fraction": 0.5,
        "delivered": 1.0,
        "server_rss_mb": 100.0,
        "echo_ms": {"p50": 30.0, "p95": 40.0, "p99": 50.0},
        "bytes_per_frame": 138.0,
        "others_fraction": 0.0,
        "errors": 0,
        **changes,
    }


def test_rounds_become_medians_and_what_failed_is_told() -> None:
    found = bench_peers.summary([row(200.0), row(900.0, delivered=0.5, errors=1), row(210.0)])
    assert found["server_cpu_us_per_player_s"] == 210.0
    assert found["errors"] == 1
    assert found["fails"] == ["1 errors"]


def test_our_designs_are_compared_with_the_tuned_peer() -> None:
    results = {
        "websocket": row(150.0),
        "colyseus-default": row(370.0),
        "colyseus-tuned": row(330.0),
    }
    figure = "server_cpu_us_per_player_s"
    assert bench_peers.against(results, figure, smaller=True) == {"websocket": 2.2}
    assert bench_peers.against(results, "max_players", smaller=False) == {}
    assert bench_peers.against({"websocket": row(150.0)}, figure, smaller=True) == {}


def test_input_of_the_peer_names_both_fields() -> None:
    assert bench_swarm.colyseus_input(b"\x00\x00\xc0\x3f\x00\x00\x00\xc0").hex() == (
        "13800000c03f81000000c0"  # as the encoder of @colyseus/schema 5.0.34 writes 1.5 and -2
    )
