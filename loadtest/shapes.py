"""Shapes of load as data: how many of the players are there, over the share of the run gone by.

Points are joined by straight lines. Moments of `storms` are shares of the run at which everybody
drops the stream and comes back at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """One shape."""

    points: tuple[Point, ...]
    """Share of the run, share of the players; both from 0 to 1, the first rising."""
    storms: tuple[float, ...] = ()
    storm_share: float = 1.0
    """The share of the players that a storm takes."""


# What a day looks like at a game played mostly in one time zone: a trough at five in the morning,
# half the crowd at noon, the peak at nine in the evening.
HOURS = (.45, .35, .28, .22, .18, .15, .16, .2, .26, .32, .38, .44,
         .5, .52, .53, .55, .6, .67, .76, .86, .95, 1., .9, .65, .45)  # fmt: skip

PROFILES: Mapping[str, Profile] = {
    "steady": Profile(((0.0, 1.0), (1.0, 1.0))),
    "ramp": Profile(((0.0, 0.0), (0.8, 1.0), (1.0, 1.0))),
    "spike": Profile(((0.0, 0.2), (0.4, 0.2), (0.42, 1.0), (0.6, 1.0), (0.62, 0.2), (1.0, 0.2))),
    "day": Profile(tuple((hour / 24, share) for hour, share in enumerate(HOURS))),
    "reconnect-storm": Profile(((0.0, 1.0), (1.0, 1.0)), storms=(0.5, 0.75)),
}


def users(profile: Profile, gone: float, most: int) -> int:
    """How many players there are when the share `gone` of the run is over; at least 1."""
    at = min(max(gone, 0.0), 1.0)
    for (x0, y0), (x1, y1) in itertools.pairwise(profile.points):
        if x0 <= at <= x1:
            share = y0 + (y1 - y0) * (at - x0) / (x1 - x0) if x1 > x0 else y1
            return max(1, round(share * most))
    return max(1, round(profile.points[-1][1] * most))


def storms(profile: Profile, before: float, gone: float) -> int:
    """How many storms break out between two moments."""
    return sum(before < moment <= gone for moment in profile.storms)
