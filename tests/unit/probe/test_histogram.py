"""The buckets: exact ends, the same as OTLP's and Prometheus'."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.probe.domain import histogram
from rallypoint.probe.domain.histogram import EMPTY, Histogram


def filled(*buckets: int) -> Histogram:
    counts = [0] * histogram.BUCKETS
    for bucket in buckets:
        counts[bucket] += 1
    return Histogram(sum(round(histogram.middle_s(b) * 1e9) for b in buckets), counts)


def test_ends_are_the_powers_rounded_down() -> None:
    ends = histogram.ends()
    assert len(ends) == histogram.BUCKETS
    assert list(ends) == sorted(set(ends))
    assert ends[183] == 1_000_000_000
    assert ends[255] == 2**63 - 1
    for bucket in range(255):
        assert ends[bucket] == pytest.approx(2 ** ((bucket - 183) / 8) * 1e9, abs=1, rel=1e-12)


@given(st.integers(120, 500 * 10**9))
def test_a_value_is_in_the_bucket_of_its_logarithm(ns: int) -> None:
    at = next(i for i, end in enumerate(histogram.ends()) if ns <= end)
    assert at == histogram.bucket_of_float(ns / 1e9)


def test_the_middle_is_close_to_everything_in_the_bucket() -> None:
    for bucket in range(60, 250):
        low, high = (histogram.ends()[bucket - 1] / 1e9, histogram.ends()[bucket] / 1e9)
        middle = histogram.middle_s(bucket)
        assert max(middle / low, high / middle) < 1.045


def test_quantiles_are_of_what_was_counted() -> None:
    values = filled(*[100] * 98, 150, 200)
    assert values.count == 100
    assert values.quantile_s(0.5) == histogram.middle_s(100)
    assert values.quantile_s(0.99) == histogram.middle_s(150)
    assert values.quantile_s(1.0) == histogram.middle_s(200)
    assert (EMPTY.quantile_s(0.5), EMPTY.mean_s) == (0.0, 0.0)


def test_histograms_add_up_and_come_apart() -> None:
    first, second = filled(10, 20), filled(20, 30)
    both = histogram.added([first, second])
    assert both.count == 4
    assert both.buckets[20] == 2
    assert histogram.since(both, first) == second
    assert histogram.added([]) == EMPTY
    assert math.isclose(both.mean_s * 4, first.mean_s * 2 + second.mean_s * 2)
