"""The manifest in docs/fleet.md is one, and the commands of the page exist."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from rallypoint.cli import crd, simulate_fleet
from rallypoint.fleet.domain.game_server_set import GameServerSet

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "fleet.md").read_text()
CHART = ROOT / crd.CHART


def test_the_manifest_of_the_page_is_a_set_that_can_be_simulated(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    item = msgspec.convert(yaml.safe_load(found[1]), GameServerSet)
    assert item.spec.autoscaling is not None
    assert [policy.name for policy in item.spec.autoscaling.policies] == ["rooms", "evening"]
    path = tmp_path / "arena.yaml"
    path.write_text(found[1])
    assert simulate_fleet.run(["--set", str(path), "--hours", "0.5", "--json"]) == 0


def test_the_crds_of_the_page_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "crd generate --stdout" in PAGE
    assert crd.run(["generate", "--stdout"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == [yaml.safe_load(path.read_text()) for path in sorted(CHART.iterdir())]
