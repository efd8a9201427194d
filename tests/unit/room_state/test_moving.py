"""Moves and drains as tables: what may follow on what, and what a node decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rallypoint.room_state.domain.draining import FINISH_MARGIN_S, FLEET_SILENT_S, Leave, may_go
from rallypoint.room_state.domain.moving import (
    ARRIVAL,
    DEPARTURE,
    Arriving,
    BadStep,
    Coming,
    Departing,
    Leaving,
    Owner,
    Verdict,
    step,
    verdict,
)

MINE = Owner("b|2", 5, "t")
SOURCES = Owner("a|1", 4)


def test_source_passes_its_phases_in_order() -> None:
    phase = Departing.PREPARING
    for event, expected in (
        (Leaving.PREPARED, Departing.STILL),
        (Leaving.HANDED_OVER, Departing.COMMITTING),
        (Leaving.COMMITTED, Departing.GONE),
    ):
        phase = step(DEPARTURE, phase, event)
        assert phase is expected


@pytest.mark.parametrize("phase", [Departing.PREPARING, Departing.STILL, Departing.COMMITTING])
def test_failure_before_the_commit_leaves_the_room_where_it_is(phase: Departing) -> None:
    assert step(DEPARTURE, phase, Leaving.FAILED) is Departing.STAYS


def test_doubtful_commit_does_not_let_the_room_go_on() -> None:
    phase = step(DEPARTURE, Departing.COMMITTING, Leaving.DOUBTFUL)
    with pytest.raises(BadStep):
        step(DEPARTURE, phase, Leaving.FAILED)
    assert step(DEPARTURE, phase, Leaving.COMMITTED) is Departing.GONE
    assert step(DEPARTURE, phase, Leaving.KEPT) is Departing.STAYS
    assert step(DEPARTURE, phase, Leaving.FENCED) is Departing.LOST


@pytest.mark.parametrize("end", [Departing.GONE, Departing.STAYS, Departing.LOST])
def test_nothing_follows_on_the_end_of_a_move(end: Departing) -> None:
    assert not [event for phase, event in DEPARTURE if phase is end]


def test_target_holds_what_it_was_given_until_it_is_started_or_dropped() -> None:
    held = step(ARRIVAL, Arriving.PREPARED, Coming.TRANSFERRED)
    assert step(ARRIVAL, held, Coming.STARTED) is Arriving.RUNS
    assert step(ARRIVAL, held, Coming.DROPPED) is Arriving.DROPPED
    with pytest.raises(BadStep):
        step(ARRIVAL, Arriving.PREPARED, Coming.STARTED)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (MINE, Verdict.START),
        (SOURCES, Verdict.WAIT),
        (None, Verdict.DROP),  # the room has ended
        (replace(MINE, transfer=""), Verdict.DROP),  # a recovery brings a newer state
        (replace(MINE, transfer="another"), Verdict.DROP),
        (Owner("c|1", 5), Verdict.DROP),
        (Owner("c|1", 6), Verdict.DROP),
    ],
)
def test_record_decides_about_a_room_that_is_held(own: Owner | None, expected: Verdict) -> None:
    assert verdict(own, MINE, held_s=1.0, expires_s=15.0) is expected


def test_held_room_expires_unless_the_record_names_it() -> None:
    assert verdict(SOURCES, MINE, held_s=15.0, expires_s=15.0) is Verdict.DROP
    assert verdict(MINE, MINE, held_s=99.0, expires_s=15.0) is Verdict.START


WAITING = Leave(rooms=3, finishing=0, somewhere=True, fleet_silent_s=0.5, left_s=8.0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WAITING, False),
        (replace(WAITING, rooms=0), True),
        (replace(WAITING, left_s=0.0), True),
        (replace(WAITING, somewhere=False), True),
        (replace(WAITING, fleet_silent_s=FLEET_SILENT_S + 1), True),
        (replace(WAITING, somewhere=False, finishing=1), False),
        (replace(WAITING, somewhere=False, finishing=1, left_s=FINISH_MARGIN_S), True),
    ],
)
def test_node_waits_only_for_what_can_still_come(state: Leave, expected: bool) -> None:
    assert may_go(state) is expected
