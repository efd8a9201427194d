"""Exponential histograms of base 2^(1/8), the twin of bpf/histogram.bpf.h.

256 buckets from 119 ns to 512 s. Bucket `i` is index `i - 184` of an OTLP exponential histogram of
scale 3 and, since Prometheus counts by upper ends, `i - 183` of its native schema 3. A bucket is
9.05 % wide, so its middle is at most 4.4 % from what fell into it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

BUCKETS: Final = 256
PER_OCTAVE: Final = 8
SCALE: Final = 3
OTLP_OFFSET: Final = -184
_NS: Final = 10**9
_ANY: Final = 2**63 - 1  # by its sign the kernel's side tells what is longer


@lru_cache(maxsize=1)
def ends() -> tuple[int, ...]:
    """The highest whole nanosecond of each bucket: `2^((i - 183) / 8)` seconds, rounded down.

    Whole roots of whole numbers: no float decides on which side a value is.
    """
    found = [_eighth_root(_NS**PER_OCTAVE, i + OTLP_OFFSET + 1) for i in range(BUCKETS - 1)]
    return (*found, _ANY)


def _eighth_root(number: int, shift: int) -> int:
    shifted = number << shift if shift >= 0 else number >> -shift
    return math.isqrt(math.isqrt(math.isqrt(shifted)))


def bucket_of_float(seconds: float) -> int:
    """The bucket by a logarithm: what `ends` must agree with, up to a float's last digit."""
    index = math.ceil(PER_OCTAVE * math.log2(seconds)) - 1 - OTLP_OFFSET
    return min(max(index, 0), BUCKETS - 1)


def middle_s(bucket: int) -> float:
    """The geometric middle of a bucket in seconds."""
    return float(2.0 ** ((bucket + OTLP_OFFSET + 0.5) / PER_OCTAVE))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often what was measured; the sum is exact."""

    sum_ns: int
    buckets: Sequence[int]

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.buckets)

    @property
    def mean_s(self) -> float:
        """The mean, exact; 0 without values."""
        return self.sum_ns / _NS / count if (count := self.count) else 0.0

    def quantile_s(self, share: float) -> float:
        """The middle of the bucket that holds the value below which `share` of all are."""
        left = share * self.count
        for bucket, number in enumerate(self.buckets):
            left -= number
            if number and left <= 0:
                return middle_s(bucket)
        return 0.0


EMPTY: Final = Histogram(0, (0,) * BUCKETS)


def added(parts: Iterable[Histogram]) -> Histogram:
    """All in one."""
    every = list(parts)
    if not every:
        return EMPTY
    sums = [sum(column) for column in zip(*(p.buckets for p in every), strict=True)]
    return Histogram(sum(p.sum_ns for p in every), sums)


def since(now: Histogram, before: Histogram) -> Histogram:
    """What was added between two readings of the same slot."""
    pairs = zip(now.buckets, before.buckets, strict=True)
    return Histogram(now.sum_ns - before.sum_ns, [new - old for new, old in pairs])
