"""When the matcher looks."""

from __future__ import annotations

import math

from rallypoint.matchmaking.domain.pace import Pace


def pace() -> Pace:
    return Pace(cycle_s=0.25, gap_s=0.02)


def test_too_few_searchers_wait_for_an_arrival() -> None:
    assert pace().wait_s(0.0, searching=1, least=2, most=8) == math.inf


def test_a_full_match_is_made_at_once() -> None:
    rhythm = pace()
    rhythm.cycled(10.0)
    rhythm.arrivals = 1
    assert 0 < rhythm.wait_s(10.0, searching=8, least=2, most=8) <= 0.02
    assert rhythm.wait_s(10.1, searching=8, least=2, most=8) == 0


def test_without_news_the_pool_is_looked_at_each_cycle() -> None:
    rhythm = pace()
    rhythm.cycled(10.0)
    assert rhythm.wait_s(10.1, searching=8, least=2, most=8) == 0.25 - (10.1 - 10.0)
    assert rhythm.wait_s(10.25, searching=3, least=2, most=8) == 0


def test_many_arrivals_are_matched_in_batches() -> None:
    rhythm = pace()
    for cycle in range(20):
        rhythm.arrivals = 200
        rhythm.cycled(cycle * 0.25)
    rhythm.arrivals = 50
    assert rhythm.rate_per_s > 500
    assert rhythm.wait_s(19 * 0.25 + 0.1, searching=100, least=2, most=2) > 0.1


def test_failures_pause_longer_each_time_and_success_forgets_them() -> None:
    rhythm, now, pauses = pace(), 0.0, []
    for _ in range(5):
        rhythm.failed(now)
        pauses.append(rhythm.wait_s(now, searching=2, least=2, most=2))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 8]
    rhythm.succeeded()
    assert rhythm.wait_s(now, searching=2, least=2, most=2) == 0


def test_failures_of_one_moment_count_once() -> None:
    rhythm = pace()
    for _ in range(10):
        rhythm.failed(5.0)
    assert rhythm.not_before == 6.0
