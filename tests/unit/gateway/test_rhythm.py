"""Inputs wait for the tick, never past it."""

import pytest

from rallypoint.gateway.domain.rhythm import Rhythm

LEAD_S = 0.006


@pytest.mark.parametrize(
    ("since_s", "wait_s"),
    [(0.0, 0.044), (0.03, 0.014), (0.044, 0.0), (0.049, 0.0), (0.051, 0.043), (0.13, 0.014)],
    ids=["just ticked", "between", "at the lead", "too late", "tick unseen", "two unseen"],
)
def test_an_input_waits_until_shortly_before_the_tick(since_s: float, wait_s: float) -> None:
    rhythm = Rhythm(period_s=0.05, seen_at=100.0)
    assert rhythm.wait_s(100.0 + since_s, lead_s=LEAD_S) == pytest.approx(wait_s, abs=1e-9)


def test_a_silent_room_gets_its_inputs_at_once() -> None:
    assert Rhythm(period_s=0.05, seen_at=100.0).wait_s(100.21, lead_s=LEAD_S) == 0.0


def test_an_unknown_rhythm_lets_nothing_wait() -> None:
    assert Rhythm().wait_s(100.0, lead_s=LEAD_S) == 0.0
    assert Rhythm(seen_at=100.0).wait_s(100.0, lead_s=LEAD_S) == 0.0
