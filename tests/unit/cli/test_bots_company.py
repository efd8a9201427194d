"""When bots that are left over stop, and what the summary says of them."""

from __future__ import annotations

import pytest

from rallypoint.cli import bots


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
