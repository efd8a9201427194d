"""Queue documents: what is accepted and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rallypoint.cli import plan
from rallypoint.kit import errors
from rallypoint.matchmaking.domain import queues

ARENA: dict[str, Any] = {
    "queue": "arena",
    "game": "skirmish",
    "team_count": 8,
    "min_players": 2,
    "min_after_s": 4,
    "tolerance": [[0, 100], [10, 300], [30, 1000]],
}


def test_default_queues_are_valid() -> None:
    parsed = queues.parse_all(json.dumps([*plan.DEFAULT_QUEUES.values()]))
    assert list(parsed) == ["skirmish", "tictactoe"]
    assert parsed["skirmish"].sizes == (8, 7, 6, 5, 4, 3, 2)
    assert json.loads(parsed["skirmish"].options) == {"time_limit_s": 120}
    assert parsed["tictactoe"].sizes == (2,)


def test_a_ticket_nobody_attends_to_ends_unless_turned_off() -> None:
    assert queues.parse(ARENA).unattended_s == 20
    assert queues.parse({**ARENA, "unattended_s": 0}).unattended_s == 0
    assert queues.parse({**ARENA, "unattended_s": 1}).unattended_s == 1


def test_teams_shrink_together() -> None:
    document = {**ARENA, "team_count": 2, "team_size": 5, "min_players": 6}
    assert queues.parse(document).sizes == (10, 8, 6)


@pytest.mark.parametrize(
    ("waited", "reach", "step"),
    [(0, 100, 0), (5, 200, 0), (10, 300, 1), (20, 650, 1), (30, 1000, 2), (999, 1000, 2)],
)
def test_the_reach_grows_with_the_wait(waited: float, reach: float, step: int) -> None:
    queue = queues.parse(ARENA)
    assert (queue.reach(waited), queue.step(waited)) == (reach, step)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tollerance": []}, "unknown keys tollerance"),
        ({"tolerance": [[1, 100]]}, "start at 0"),
        ({"tolerance": [[0, 100], [0, 200]]}, "must grow"),
        ({"tolerance": [[0, 100], [5, 50]]}, "must grow"),
        ({"tolerance": "wide"}, "must list"),
        ({"team_count": True}, "whole number"),
        ({"max_players": 9}, "max_players <="),
        ({"min_players": 9}, "min_players <="),
        ({"team_count": 2, "team_size": 2, "max_players": 3}, "equal teams"),
        ({"ticket_ttl_s": 0}, "from 1"),
        ({"unattended_s": -1}, "from 0"),
        ({"unattended_s": 0.5}, "0 .off. or at least 1"),
        ({"unattended_s": "20"}, "must be a number"),
        ({"options": []}, "options must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_documents_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=words) as caught:
        queues.parse({**ARENA, **change})
    assert caught.value.reason == "QUEUE_INVALID"


@pytest.mark.parametrize("text", ["", "{}", "[]", '"skirmish"', "[1]", '[{"queue": "a"}]'])
def test_wrong_lists_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        queues.parse_all(text)


def test_names_are_checked() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        queues.parse({**ARENA, "queue": "Arena {1}"})
    assert caught.value.reason == "NAME_INVALID"


def test_a_queue_named_twice_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="twice"):
        queues.parse_all(json.dumps([ARENA, ARENA]))


@pytest.mark.parametrize(
    "options", ['{"a": ' * 100_000, '{"a": NaN}', '{"a": 1e999}'], ids=["deep", "nan", "endless"]
)
def test_options_that_nobody_could_read_are_refused(options: str) -> None:
    text = f'{{"queue": "q", "game": "g", "options": {options}}}'
    with pytest.raises(errors.InvalidArgument, match="JSON"):
        queues.read(text.encode())
    with pytest.raises(errors.InvalidArgument, match="JSON"):
        queues.parse_all(f"[{text}]")
