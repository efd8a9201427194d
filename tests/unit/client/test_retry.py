"""Pauses between tries."""

from __future__ import annotations

import random

from rallypoint.client import retry


def test_pauses_stay_below_a_limit_that_doubles() -> None:
    backoff = retry.Backoff(rng=random.Random(1))
    limit_s = retry.FIRST_S
    for _ in range(12):
        assert 0 <= backoff.next_s() <= limit_s
        limit_s = min(limit_s * 2, retry.MOST_S)


def test_server_wish_is_respected() -> None:
    assert retry.Backoff().next_s(3.0) >= 3.0


def test_reset_starts_with_short_pauses_again() -> None:
    backoff = retry.Backoff(rng=random.Random(1))
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= retry.FIRST_S
