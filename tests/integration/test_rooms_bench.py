"""`rallypoint bench rooms`, small: what it plays is played; nothing is said of its speed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rallypoint.cli import bench_peers, bench_rooms, bench_run, bench_scale, bench_soak

pytestmark = pytest.mark.alone

SMALL = ["--players", "8", "--seconds", "2", "--warm-up", "1", "--json"]
needs_c = pytest.mark.skipif(not bench_run.has_native_load(), reason="the C load is not built")


def printed(capfd: pytest.CaptureFixture[str]) -> Any:
    """What a bench found, or why it found nothing."""
    out, err = capfd.readouterr()
    assert out, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("game", "load", "transport"),
    [
        pytest.param("drift", "c", "grpc-web", marks=needs_c),
        pytest.param("skirmish", "c", "websocket", marks=needs_c),
        ("skirmish", "python", "grpc-web"),
    ],
)
def test_everybody_plays_and_is_counted(
    game: str, load: str, transport: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wish = ["--game", game, "--load", load, "--transport", transport]
    bench_rooms.run([*SMALL, "--rooms", "2", *wish])
    report = printed(capfd)
    assert report["players"] == 16
    assert report["errors_by_reason"] == {}
    assert report["load"] == load
    assert 0.5 < report["delivered"] < 1.5
    assert report["inputs_echoed"] > 0.5
    assert report["echo_ms"]["p50"] <= report["echo_ms"]["p99"]
    assert {"gateway-1", "room-state-1", "nats", "redis"} <= report["by_process"].keys()
    assert report["server_cpu_us_per_player_s"] > 0


@needs_c
def test_one_room_takes_everybody(capfd: pytest.CaptureFixture[str]) -> None:
    wish = ["--game", "swarm", "--players-total", "40", "--without-floor"]
    bench_rooms.run([*wish, "--seconds", "2", "--warm-up", "1", "--json"])
    report = printed(capfd)
    assert report["players"] == 40
    assert report["errors_by_reason"] == {}
    assert 0.5 < report["delivered"] < 1.5
    assert report["inputs_echoed"] > 0.5


@needs_c
def test_the_search_ends_and_tells_the_floor(capfd: pytest.CaptureFixture[str]) -> None:
    bench_rooms.run([*SMALL[:2], "--seconds", "1", "--json", "--find-max", "--at-most", "16"])
    report = printed(capfd)
    assert report["max_players"] == 16
    assert report["floor_us_per_player_s"] > 0
    assert report["times_floor"] > 1
    assert report["searched"][-1]["players"] == 16


@needs_c
def test_the_peer_plays_the_same_work(capfd: pytest.CaptureFixture[str]) -> None:
    size = ["--players-total", "16", "--seconds", "1", "--warm-up", "1", "--rounds", "1"]
    assert bench_peers.run([*size, "--designs", "websocket", "colyseus-tuned", "--json"]) == 0
    report = printed(capfd)
    for row in report["results"].values():
        assert row["errors"] == 0
        assert 0.5 < row["delivered"] < 1.5
        assert row["echo_ms"]["p50"] > 0
    assert report["times_cheaper"]["websocket"] > 0


@needs_c
def test_a_soak_tells_its_intervals_and_a_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    short = ["--minutes", "0.05", "--interval", "1", "--players-total", "16", "--json"]
    bench_soak.run(short)
    report = printed(capfd)
    assert len(report["intervals"]) == 3
    assert report["errors"] == 0
    assert all(row["rss_mb"] > 0 and row["p99_ms"] > 0 for row in report["intervals"])
    assert report["flat"] is (report["memory_mb"]["flat"] and report["p99_ms"]["flat"])


@needs_c
def test_several_nodes_and_gateways_share_the_players(capfd: pytest.CaptureFixture[str]) -> None:
    size = ["--players-each", "16", "--seconds", "1", "--warm-up", "1", "--rounds", "1", "--json"]
    bench_scale.run([*size, "--pairs", "2"])
    report = printed(capfd)
    one, two = report["results"]["1"], report["results"]["2"]
    assert (one["players"], two["players"]) == (16, 32)
    assert {"gateway-2", "room-state-2"} <= two["by_process"].keys() - one["by_process"].keys()
    assert report["efficiency"] > 0
    assert 0.5 < two["delivered"] < 1.5
