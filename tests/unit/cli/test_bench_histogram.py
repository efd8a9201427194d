"""Histograms of echo times."""

from __future__ import annotations

from array import array

import pytest

from rallypoint.cli.bench_histogram import Histogram, merged


def counted(**times: int) -> Histogram:
    """Of ten buckets; b3=2 is two times in the fourth."""
    return Histogram([times.get(f"b{bucket}", 0) for bucket in range(10)])


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 0.1), (50, 0.1), (51, 0.6), (99, 0.6), (100, 1.0)]
)
def test_percentile_is_the_edge_of_its_bucket(percent: float, expected: float) -> None:
    assert counted(b0=50, b5=49, b9=1).percentile_ms(percent) == expected


def test_nothing_counted_has_no_percentile() -> None:
    assert counted().percentile_ms(50) is None


def test_differences_and_sums_are_by_bucket() -> None:
    earlier, later = counted(b1=1, b2=2), counted(b1=4, b2=2, b7=1)
    new = later - earlier
    assert new == counted(b1=3, b7=1)
    assert merged([new, earlier]) == later
    assert new.total == 4


def test_packed_numbers_are_read_back() -> None:
    assert list(Histogram.of(array("Q", [3, 0, 1 << 40]).tobytes()).counts) == [3, 0, 1 << 40]
