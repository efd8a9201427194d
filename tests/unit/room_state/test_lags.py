"""Who falls behind, by what clients acknowledge: a long way is no fault, a growing one is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.room_state.domain.lags import CROWD, Lags, Pace

TICKS_PER_LOOK = 5


class Seat:
    """One client over many looks at 20 Hz; `lag` ticks are on the way or wait there."""

    def __init__(self) -> None:
        self.lags = Lags(1, tick_hz=20)
        self.tick = 100
        self.calls = 0
        self.told: list[Pace] = []

    def look(self, lag: int, *, times: int = 1, heard: bool = True) -> Pace:
        for _ in range(times):
            self.tick += TICKS_PER_LOOK
            self.calls += heard
            numbers = [np.array([n]) for n in (self.tick, self.tick - lag, self.calls)]
            self.told += [pace for _, pace in self.lags.look(*numbers)]
        return Pace(self.lags.pace[0])


@given(st.integers(0, 40), st.lists(st.integers(0, 4), max_size=60))
@settings(max_examples=60)
def test_long_way_with_a_little_jitter_costs_nothing(way: int, jitter: list[int]) -> None:
    seat = Seat()
    for more in jitter:
        seat.look(way + more)
    assert seat.told == []


def test_growing_lag_halves_then_holds_then_heals() -> None:
    seat = Seat()
    seat.look(3, times=4)
    assert seat.look(12, times=3) is Pace.FULL, "a moment is no pattern"
    assert seat.look(12) is Pace.HALF
    assert seat.look(40) is Pace.HOLD
    assert seat.look(45) is Pace.HOLD
    assert seat.look(4) is Pace.HALF
    assert seat.look(4, times=8) is Pace.FULL
    assert seat.told[-1] is Pace.FULL
    told = len(seat.told)
    seat.look(4, times=8)
    assert len(seat.told) == told


def test_who_is_not_full_is_told_again() -> None:
    seat = Seat()
    seat.look(3)
    seat.look(12, times=10)
    assert seat.told == [Pace.HALF] * 7


def test_acknowledgement_that_stands_still_ends_the_hold() -> None:
    seat = Seat()
    seat.look(3)
    seat.look(40, times=2)
    for more in range(6):
        pace = seat.look(45 + TICKS_PER_LOOK * more)
    assert pace is Pace.HALF


def test_who_says_nothing_is_left_alone() -> None:
    seat = Seat()
    seat.look(3)
    assert seat.look(300, times=20, heard=False) is Pace.FULL


def test_stream_that_begins_anew_is_not_blamed_for_the_last_one() -> None:
    seat = Seat()
    seat.look(3)
    seat.look(12, times=5)
    seat.lags.forget(slice(0, 1))
    assert seat.look(30) is Pace.FULL


def test_what_all_of_a_crowd_have_is_the_servers_own() -> None:
    lags, tick = Lags(CROWD + 1, tick_hz=20), 100
    told: list[tuple[int, Pace]] = []
    for look in range(1, 13):
        tick += TICKS_PER_LOOK
        lag = np.full(CROWD + 1, 50 if look > 4 else 3)
        lag[0] += 20 if look > 4 else 0
        ticks = np.full(CROWD + 1, tick)
        told += lags.look(ticks, ticks - lag, np.full(CROWD + 1, look))
    assert {seat for seat, _ in told} == {0}
    assert lags.pace[0] == Pace.HALF
