"""The in-flight limit: grows slowly, halves once per refusal round, never passes its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kube.domain.limiter import Window


def test_a_round_of_answers_adds_one() -> None:
    window = Window(limit=4.0)
    for _ in range(4):
        window.succeeded()
    assert window.limit == pytest.approx(5.0, abs=0.2)


def test_refusals_of_one_round_halve_once() -> None:
    window = Window(limit=16.0)
    for _ in range(10):
        window.refused(sent_at=1.0, now=2.0)
    assert window.limit == 8.0
    window.refused(sent_at=2.5, now=3.0)
    assert window.limit == 4.0


def test_no_more_enter_than_the_limit() -> None:
    window = Window(limit=2.0)
    assert [window.try_enter() for _ in range(3)] == [True, True, False]
    window.leave()
    assert window.try_enter()


@given(st.lists(st.booleans(), max_size=300))
def test_the_limit_stays_in_its_bounds(answers: list[bool]) -> None:
    window = Window(least=1.0, most=32.0)
    for now, good in enumerate(answers):
        if good:
            window.succeeded()
        else:
            window.refused(sent_at=now, now=now + 0.5)
        assert 1.0 <= window.limit <= 32.0
