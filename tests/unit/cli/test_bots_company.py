"""When bots stop: those that are left over, and all where there is nothing to play."""

from __future__ import annotations

import pytest

from rallypoint.cli import bots
from rallypoint.kit import errors


@pytest.mark.parametrize(
    ("count", "least", "done", "too_few"),
    [
        pytest.param(3, 2, 1, False, id="two are left for a match of two"),
        pytest.param(3, 2, 2, True, id="one is left"),
        pytest.param(1, 2, 0, False, id="too few from the start: here for people"),
        pytest.param(4, 4, 1, True, id="three are left for a match of four"),
        pytest.param(2, 0, 1, False, id="the queue is unknown"),
    ],
)
def test_bots_stop_when_too_few_are_left(count: int, least: int, done: int, too_few: bool) -> None:
    company = bots.Company(count, count)
    company.needs(least)
    for _ in range(done):
        company.done()
    assert company.too_few.is_set() is too_few


def test_a_late_word_of_the_queue_s_size_counts() -> None:
    company = bots.Company(2, 2)
    company.done()
    assert not company.too_few.is_set()
    company.needs(2)
    assert company.too_few.is_set()


def test_the_summary_tells_who_stopped_early() -> None:
    score = bots.Score(matches=4)
    assert "early" not in score.line()
    score.left_over = 1
    assert score.line().endswith("; 1 bot stopped early, too few were left for another match")
    assert score.document()["left_over"] == 1


AWAY = errors.Unavailable("CONNECT_FAILED")
NO_GATEWAY = errors.Unimplemented("HTTP_404")
NO_QUEUE = errors.NotFound("QUEUE_UNKNOWN")


@pytest.mark.parametrize(
    ("error", "tried_s", "reached", "begun", "useless"),
    [
        pytest.param(AWAY, 9.0, False, False, False, id="it may be about to start"),
        pytest.param(AWAY, 10.0, False, False, True, id="nothing is there"),
        pytest.param(AWAY, 99.0, True, False, False, id="it was there"),
        pytest.param(NO_GATEWAY, 0.0, False, False, True, id="something else is there"),
        pytest.param(NO_QUEUE, 0.0, True, False, True, id="nobody has such a queue"),
        pytest.param(NO_QUEUE, 99.0, True, True, False, id="the queue was there"),
    ],
)
def test_bots_end_when_trying_again_is_of_no_use(
    error: errors.RallypointError, tried_s: float, reached: bool, begun: bool, useless: bool
) -> None:
    company = bots.Company(2, 2, reached=reached, begun=begun)
    assert company.is_useless(error, tried_s) is useless


def test_wrong_address_is_told_once_and_ends_all_bots(capsys: pytest.CaptureFixture[str]) -> None:
    assert bots.run(["--url", "ftp://127.0.0.1:8080", "--count", "3"]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("rallypoint bots: no match at ftp://127.0.0.1:8080: URL_INVALID")
    assert "URL_INVALID 3x" in shown.out
