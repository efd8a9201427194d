"""When sockets are looked at that are read by the clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain.looking import (
    AHEAD_S,
    FORGOTTEN_S,
    LAST_S,
    PERIOD_MAX_S,
    PERIOD_S,
    Looks,
)

TICK_S = 0.05
LEAD_S = 0.005
NOW = 100.0


def looks_of_a_tick(*, late_s: float = 0.0) -> list[float]:
    """When is looked from the look before one departure of inputs to that before the next, seconds
    after the first departure, while every look finds inputs."""
    looks, at, seen = Looks(), 0.0, []
    looks.took(NOW, TICK_S)
    while at < 2 * TICK_S:
        at += looks.pause_s(NOW + at) + late_s
        seen.append(at - TICK_S)
        since_s = at % TICK_S
        looks.took(NOW + at, TICK_S - since_s if since_s > LEAD_S else 0.0)
    return [at for at in seen if -AHEAD_S - 0.0005 < at < TICK_S - AHEAD_S - 0.0005]


def test_a_tick_has_a_look_before_its_departure_one_after_and_few_others() -> None:
    looks = looks_of_a_tick()
    assert looks[0] < 0
    assert math.isclose(looks[1], LAST_S)
    assert LAST_S < LEAD_S
    assert 4 <= len(looks) <= 6


def test_late_timers_do_not_make_more_looks() -> None:
    assert 4 <= len(looks_of_a_tick(late_s=0.0004)) <= 6


def test_a_timer_that_fires_early_does_not_spin() -> None:
    looks = Looks()
    looks.took(NOW, 0.03)
    assert looks.pause_s(NOW + 0.0286) > PERIOD_S


def test_the_last_look_begins_earlier_the_longer_it_takes() -> None:
    looks = Looks()
    looks.took(NOW, 0.03)
    for _ in range(100):
        looks.lasted(0.0005)
    assert looks.pause_s(NOW + 0.03) == pytest.approx(LAST_S - 0.0005, abs=1e-5)
    for _ in range(100):
        looks.lasted(0.5)  # as if the process had stood still
    assert looks.pause_s(NOW + 0.03) == pytest.approx(LAST_S / 2, abs=1e-5)


def test_the_next_of_several_tables_is_looked_for_when_one_has_left() -> None:
    looks = Looks()
    looks.took(NOW, 0.002)
    looks.took(NOW + 0.006, 0.0)
    looks.go_on(NOW + 0.006, 0.008)
    assert looks.due_s == pytest.approx(NOW + 0.014)
    looks.go_on(NOW + 0.007, 0.03)  # not before that one
    assert looks.due_s == pytest.approx(NOW + 0.014)


def test_what_left_long_ago_is_forgotten() -> None:
    looks = Looks()
    looks.took(NOW, 0.02)
    assert looks.pause_s(NOW + 0.03) > PERIOD_S
    assert looks.pause_s(NOW + 0.03 + FORGOTTEN_S) == PERIOD_S


def test_the_first_of_several_nodes_decides() -> None:
    looks = Looks()
    looks.took(NOW, 0.04)
    looks.took(NOW, 0.003)
    looks.took(NOW, 0.02)
    assert looks.due_s == NOW + 0.003


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 1))))
def test_nothing_lies_unread_for_long(taken: list[tuple[float, float]]) -> None:
    looks, now = Looks(), NOW
    for passed_s, wait_s in taken:
        now += passed_s
        looks.took(now, wait_s)
        assert 0.0004 < looks.pause_s(now) <= PERIOD_MAX_S
