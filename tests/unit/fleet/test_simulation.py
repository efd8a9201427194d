"""A simulated day: buffers buy what they say, nobody's match is ended, seeds repeat."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from rallypoint.cli import main
from rallypoint.fleet.domain.game_server_set import (
    Autoscaling,
    GameServerSetSpec,
    Policy,
    ScaleInPace,
)
from rallypoint.fleet.domain.simulation import Outcome, Scenario, run

EVENING = Scenario(peak_per_minute=12, night_share=0.05, match_s=300, tick_s=20)


def day(buffer: str | int, scenario: Scenario = EVENING) -> Outcome:
    policy = Policy(name="rooms", type="RoomBuffer", buffer=buffer)
    pace = ScaleInPace(stabilization_seconds=120, period_seconds=15)
    scaling = Autoscaling(min=1, max=50, policies=(policy,), scale_in=pace)
    return run(scenario, GameServerSetSpec(autoscaling=scaling))


def test_a_larger_buffer_waits_less_and_costs_more() -> None:
    tight, wide = day(0), day(16)
    assert wide.waited < tight.waited
    assert wide.server_hours > tight.server_hours
    assert wide.utilisation < tight.utilisation
    assert wide.denied == 0


def test_the_set_follows_the_curve_up_and_down() -> None:
    """That no occupied server goes is asserted inside, at every retirement."""
    outcome = day("20%")
    servers = [sample.servers for sample in outcome.samples]
    assert max(servers) > 2 * min(servers)
    assert outcome.retired > 0
    assert outcome.matches > 5000


def test_the_same_seed_is_the_same_day() -> None:
    assert day("20%") == day("20%")


def test_the_command_prints_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = {"name": "rooms", "type": "RoomBuffer", "buffer": "20%"}
    spec = {"autoscaling": {"min": 1, "max": 30, "policies": [policy]}}
    meta = {"name": "arena"}
    manifest = {"apiVersion": "rallypoint.dev/v1", "kind": "GameServerSet", "metadata": meta}
    (tmp_path / "set.yaml").write_text(yaml.safe_dump({**manifest, "spec": spec}))
    picture = tmp_path / "day.svg"
    words = ["simulate", "fleet", "--set", str(tmp_path / "set.yaml"), "--hours", "1"]
    words += ["--peak", "10", "--plot", str(picture), "--json"]
    assert main.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["matches"] > 0
    assert 0 < report["utilisation"] <= 1
    assert "Denied matches" in picture.read_text()
    ET.parse(picture)


def test_a_manifest_without_autoscaling_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.yaml").write_text("kind: GameServerSet\nspec: {replicas: 3}\n")
    assert main.main(["simulate", "fleet", "--set", str(tmp_path / "set.yaml")]) == 1
    assert "has no spec.autoscaling" in capsys.readouterr().err
