"""Deadlines are absolute, backlogs bounded, phases spread."""

import pytest

from rallypoint.room_state.domain.pacing import MAX_CATCH_UP, Pacer

PERIOD_S = 0.05


def started(now: float = 10.0) -> Pacer:
    pacer = Pacer(PERIOD_S, index=0)
    pacer.start(now)
    return pacer


def test_late_ticks_do_not_shift_later_ones() -> None:
    pacer = started()
    ticks, now = 0, 10.0
    while now < 20.0:
        now = pacer.deadline + 0.013  # each begins 13 ms late
        ticks += pacer.due(now)
    assert ticks == pytest.approx(10.0 / PERIOD_S, abs=1)


def test_nothing_is_due_before_the_deadline() -> None:
    pacer = started()
    assert pacer.due(pacer.deadline - 0.002) == 0
    assert pacer.due(pacer.deadline) == 1
    assert pacer.due(pacer.deadline - 0.002) == 0


@pytest.mark.parametrize(
    ("periods", "steps", "dropped"), [(1, 2, 0), (4, 5, 0), (5, 5, 1), (99, 5, 95)]
)
def test_backlog_is_caught_up_and_then_dropped(periods: int, steps: int, dropped: int) -> None:
    pacer = started()
    now = pacer.deadline + periods * PERIOD_S + 0.001
    assert pacer.due(now) == steps <= MAX_CATCH_UP
    assert pacer.dropped == dropped
    assert now < pacer.deadline <= now + PERIOD_S


def test_tables_are_spread_over_the_period() -> None:
    phases = []
    for index in range(8):
        pacer = Pacer(PERIOD_S, index)
        pacer.start(0.0)
        phases.append(pacer.deadline % PERIOD_S)
    gaps = [b - a for a, b in zip(sorted(phases), sorted(phases)[1:], strict=False)]
    assert min(gaps) > PERIOD_S / 24
