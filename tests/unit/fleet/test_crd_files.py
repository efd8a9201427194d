"""The chart's CRDs are what their types say, in each version, and conversion loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.cli import crd as command
from rallypoint.fleet import resources
from rallypoint.fleet.domain import game_server_set_beta as beta
from rallypoint.fleet.domain.game_server import USUAL

CHART = Path(__file__).parents[3] / "helm" / "rallypoint" / "crds"


def test_the_charts_files_are_those_of_the_types() -> None:
    """After a change of a type: `rallypoint crd generate`."""
    assert {path.name: path.read_text() for path in CHART.iterdir()} == dict(resources.files())


def test_the_command_writes_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--directory", str(tmp_path)]
    assert command.run([*words, "--check"]) == 1
    assert "rallypoint crd generate" in capsys.readouterr().err
    assert command.run(words) == 0
    assert command.run([*words, "--check"]) == 0


def schema(name: str, version: int = 0) -> dict[str, Any]:
    document = yaml.safe_load(resources.files()[name])
    return dict(document["spec"]["versions"][version]["schema"]["openAPIV3Schema"])


def parts(node: Any) -> list[dict[str, Any]]:
    """Return all schemas inside a schema."""
    if not isinstance(node, dict):
        return []
    inner = [*node.get("properties", {}).values(), node.get("items")]
    return [node, *(part for child in inner for part in parts(child))]


@pytest.mark.parametrize(
    ("name", "version"),
    [("gameservers.yaml", 0), ("gameserversets.yaml", 0), ("gameserversets.yaml", 1)],
)
def test_everything_is_explained_and_lists_are_bounded(name: str, version: int) -> None:
    """Lists without a bound make CEL's cost unbounded; a field without words explains nothing."""
    for section in ("spec", "status"):
        for part in parts(schema(name, version)["properties"][section]):
            if part.get("type") == "array":
                assert "maxItems" in part
                assert "x-kubernetes-list-type" in part
            properties = part.get("properties", {})
            assert all(inner.get("description") for inner in properties.values())


def test_the_versions_differ_in_one_field() -> None:
    now, before = (
        schema("gameserversets.yaml", version)["properties"]["spec"]["properties"]
        for version in (0, 1)
    )
    assert [name for name in now if now[name] != before[name]] == ["scaleIn"]
    idle = (set(now["scaleIn"]["properties"]), set(before["scaleIn"]["properties"]))
    assert idle[0] ^ idle[1] == {"minIdleSeconds", "idleSeconds"}


def test_every_phase_can_end() -> None:
    for phase in USUAL:
        reached, fresh = {phase}, {phase}
        while fresh:
            fresh = {n for p in fresh for n in USUAL[p]} - reached
            reached |= fresh
        assert "Terminating" in reached


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["", "x"])),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)
SCALE_IN = st.dictionaries(st.sampled_from(["idleSeconds", "maxPerStep", "unknown"]), JSON)
SPECS = st.fixed_dictionaries({}, optional={"scaleIn": SCALE_IN, "template": JSON})
ITEMS = st.fixed_dictionaries(
    {"apiVersion": st.just(beta.BETA), "kind": st.just("GameServerSet")},
    optional={"spec": SPECS, "status": JSON, "metadata": JSON},
)


@given(ITEMS)
def test_conversion_there_and_back_changes_nothing(item: dict[str, Any]) -> None:
    stable = beta.convert(item, beta.STABLE)
    assert stable["apiVersion"] == beta.STABLE
    assert "idleSeconds" not in ((stable.get("spec") or {}).get("scaleIn") or {})
    assert beta.convert(stable, beta.BETA) == item
    assert beta.convert(item, beta.BETA) == item


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no way from"):
        beta.convert({"apiVersion": beta.BETA}, "rallypoint.dev/v2")
