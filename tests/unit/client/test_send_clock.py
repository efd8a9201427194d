"""The send clock: inputs come to arrive shortly before their tick, wherever they begin."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.client.send_clock import MOST_SHIFT_S, SendClock

TICK_S = 0.05


def margin(at_s: float) -> float:
    """How long an input that arrives at this moment waits for its tick."""
    return TICK_S - at_s % TICK_S


@given(begin_s=st.floats(0, 0.3), jitter_ms=st.sampled_from([0, 1, 4]), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_inputs_come_shortly_before_their_tick(begin_s: float, jitter_ms: int, seed: int) -> None:
    clock, rng, at_s = SendClock(tick_s=TICK_S), random.Random(seed), begin_s
    for _ in range(60):
        clock.observe(margin(at_s + rng.uniform(0, jitter_ms) / 1000))
        for _ in range(20):
            at_s += TICK_S + clock.shift_s()
    off = (margin(at_s) - clock.aim_s + TICK_S / 2) % TICK_S - TICK_S / 2
    assert abs(off) < 0.004 + jitter_ms / 1000
    assert clock.aim_s < 0.010 + 2.5 * jitter_ms / 1000


@given(st.lists(st.floats(0, 0.25), max_size=20))
def test_no_input_is_moved_by_much(margins_s: list[float]) -> None:
    clock = SendClock(tick_s=TICK_S)
    for margin_s in margins_s:
        clock.observe(margin_s)
        assert abs(clock.shift_s()) <= MOST_SHIFT_S
        assert clock.aim_s <= TICK_S
