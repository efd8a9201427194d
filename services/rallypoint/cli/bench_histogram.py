"""Times counted in buckets of equal width, as the C load counts them; differences add up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BUCKET_MS = 0.1


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many times lay in each bucket; the last one holds all that are longer."""

    counts: Sequence[int]

    @classmethod
    def of(cls, packed: bytes) -> Histogram:
        """From unsigned 64-bit numbers, native order."""
        counts = array("Q")
        counts.frombytes(packed)
        return cls(counts)

    @property
    def total(self) -> int:
        """All times."""
        return sum(self.counts)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What came since an earlier look."""
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Histogram([now - before for now, before in pairs])

    def percentile_ms(self, percent: float) -> float | None:
        """The upper edge of the bucket that holds it; None without any time."""
        total = self.total
        if not total:
            return None
        wanted = max(1, -(-total * percent // 100))
        passed = 0
        for bucket, count in enumerate(self.counts):
            passed += count
            if passed >= wanted:
                return round((bucket + 1) * BUCKET_MS, 1)
        raise AssertionError("unreachable")


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Several measurements as one."""
    return Histogram([sum(bucket) for bucket in zip(*(h.counts for h in histograms), strict=True)])
