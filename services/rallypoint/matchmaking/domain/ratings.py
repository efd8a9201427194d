"""Ratings: OpenSkill's Plackett-Luce model (Weng and Lin 2011; package `openskill` 6.2).

`rate` turns a match's placements into new skills. Players are grouped by team; a team's rank is the
best rank of its players; equal ranks are a draw. A match of fewer than two teams changes nothing.
openskill is imported at the first result, not at start.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

START_MU = 25.0
START_SIGMA = 25.0 / 3.0


@dataclass(frozen=True, slots=True)
class Skill:
    """A player's rating in one queue."""

    mu: float = START_MU
    sigma: float = START_SIGMA
    matches: int = 0
    last_match_id: str = ""
    last_change: int = 0

    @property
    def display(self) -> int:
        """The number shown."""
        return round(points(self.mu))


@dataclass(frozen=True, slots=True)
class Placing:
    """How one player did; rank 1 is best."""

    player_id: str
    team: int
    rank: int


def points(mu: float) -> float:
    """Displayed points before rounding: 1500 for a new player, 40 per unit of mu."""
    return 1500.0 + 40.0 * (mu - START_MU)


@functools.cache
def _model() -> Any:
    from openskill.models import PlackettLuce  # 70 ms that a start need not pay

    return PlackettLuce(mu=START_MU, sigma=START_SIGMA)


def rate(
    match_id: str, placings: Sequence[Placing], before: Mapping[str, Skill]
) -> dict[str, Skill]:
    """New skills by player; `before` holds every player's, absent means new."""
    teams: dict[int, list[Placing]] = {}
    for placing in placings:
        teams.setdefault(placing.team, []).append(placing)
    if len(teams) < 2:
        return {}
    model, rosters = _model(), list(teams.values())
    start = {p.player_id: before.get(p.player_id, Skill()) for p in placings}
    rated = model.rate(
        [[_rating(model, start[p.player_id]) for p in roster] for roster in rosters],
        ranks=[float(min(p.rank for p in roster)) for roster in rosters],
    )
    return {
        placing.player_id: _after(match_id, start[placing.player_id], rating)
        for roster, ratings in zip(rosters, rated, strict=True)
        for placing, rating in zip(roster, ratings, strict=True)
    }


def _rating(model: Any, skill: Skill) -> Any:
    return model.rating(mu=skill.mu, sigma=skill.sigma)


def _after(match_id: str, before: Skill, rating: Any) -> Skill:
    mu, sigma = float(rating.mu), float(rating.sigma)
    change = round(points(mu)) - before.display
    return Skill(mu, sigma, before.matches + 1, match_id, change)
