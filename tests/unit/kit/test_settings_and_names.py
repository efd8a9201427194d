"""Settings from the environment, names that may enter, ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rallypoint.kit import errors, names, settings


@dataclass(frozen=True, slots=True)
class Inner:
    """A nested part."""

    web_port: int = 8080
    drain_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Outer:
    """All kinds of fields."""

    inner: Inner = field(default_factory=Inner)
    name: str = "x"
    quick: bool = False
    where: Path = Path()
    games: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Strict:
    """A field that must be set."""

    node_id: str


def test_every_kind_of_field_is_read_and_nested_ones_are_flat() -> None:
    environ = {
        "RALLYPOINT_WEB_PORT": "9",
        "RALLYPOINT_DRAIN_S": "0.5",
        "RALLYPOINT_QUICK": "Yes",
        "RALLYPOINT_WHERE": "/data",
        "RALLYPOINT_GAMES": "skirmish, tictactoe,",
        "RALLYPOINT_LIMIT": "3",
        "OTHER": "ignored",
    }
    assert settings.load(Outer, environ) == Outer(
        Inner(9, 0.5), "x", True, Path("/data"), ("skirmish", "tictactoe"), 3
    )


def test_absent_variables_leave_the_defaults() -> None:
    assert settings.load(Outer, {"RALLYPOINT_LIMIT": ""}) == Outer()


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("RALLYPOINT_WEB_PORT", "eighty", "a whole number"),
        ("RALLYPOINT_DRAIN_S", "long", "a number"),
        ("RALLYPOINT_QUICK", "maybe", "true or false"),
        ("RALLYPOINT_LIMIT", "x", "a whole number"),
    ],
)
def test_bad_value_names_the_variable_and_the_remedy(
    variable: str, value: str, remedy: str
) -> None:
    with pytest.raises(settings.SettingsError, match=f"{variable}.*{remedy}"):
        settings.load(Outer, {variable: value})


def test_required_variable_that_is_absent_is_named() -> None:
    with pytest.raises(settings.SettingsError, match="RALLYPOINT_NODE_ID is not set"):
        settings.load(Strict, {})


@pytest.mark.parametrize("good", ["a", "local-1", "0", "x" * 32])
def test_good_name_is_returned(good: str) -> None:
    assert names.check_name(good, "queue") == good


@pytest.mark.parametrize("bad", ["", "A", "a_b", "a.b", "a b", "x" * 33, "ä", "a\n"])
def test_bad_name_is_refused_with_its_field(bad: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        names.check_name(bad, "queue")
    assert (refused.value.reason, refused.value.metadata) == ("NAME_INVALID", {"field": "queue"})


def test_ids_are_distinct_and_may_be_names() -> None:
    made = {names.new_id("t-") for _ in range(100)}
    assert len(made) == 100
    assert all(names.check_name(one, "id").startswith("t-") for one in made)
