"""`--queue`: what can be played, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from rallypoint.cli import plan, queues


def test_a_game_by_name_has_its_known_queue() -> None:
    assert queues.document("skirmish") == plan.DEFAULT_QUEUES["skirmish"]


def test_a_document_is_completed_from_its_game() -> None:
    document = queues.document('{"queue": "duel", "game": "skirmish", "max_players": 2}')
    assert (document["queue"], document["game"], document["max_players"]) == ("duel", "skirmish", 2)
    assert document["tolerance"] == plan.DEFAULT_QUEUES["skirmish"]["tolerance"]


def test_without_a_wish_every_installed_game_is_played() -> None:
    names = [document["queue"] for document in queues.documents(())]
    assert names[:2] == ["skirmish", "tictactoe"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nosuch", "neither an installed game"),
        ('{"queue": ', "nor a JSON document: "),
        ("[]", "must be an object"),
        ("{}", "must be an object"),
        ('{"queue": 3}', "must be an object"),
        ('{"queue": "x"}', "'x' is not installed; installed are skirmish, tictactoe"),
        ('{"queue": "x", "game": "skirmish", "max_plaers": 2}', "unknown keys max_plaers"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(queues.QueueError, match=why):
        queues.documents([text])


def test_the_same_queue_twice_is_refused() -> None:
    with pytest.raises(queues.QueueError, match="named twice"):
        queues.documents(["skirmish", "skirmish"])
