"""Whether figures stay flat over time: the slope through them that outliers do not move."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trend:
    """How a figure went over a run."""

    typical: float
    """Its median."""
    growth: float
    """What it grew by from the first interval to the last, along the slope."""
    allowed: float
    """What growth counts as flat."""

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than allowed; shrinking is fine."""
        return self.growth <= self.allowed


def trend(values: Sequence[float], *, share: float, least: float) -> Trend:
    """The trend of evenly spaced values; flat while it grows by `share` of the median or `least`.

    The slope is the median of the slopes through all pairs (Theil and Sen): a third of the
    intervals may be disturbed without any effect.
    """
    slopes = [
        (later - earlier) / (at_later - at)
        for (at, earlier), (at_later, later) in itertools.combinations(enumerate(values), 2)
    ]
    typical = statistics.median(values)
    growth = statistics.median(slopes) * (len(values) - 1) if slopes else 0.0
    return Trend(round(typical, 1), round(growth, 2), round(max(share * typical, least), 2))
