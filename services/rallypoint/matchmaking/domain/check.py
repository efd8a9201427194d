"""Independent judgment of matches: plain loops that share no code with the matcher.

Used by the bench and by tests. A violation is one line that says which rule is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Searcher:
    """A ticket as the rules see it."""

    skill: float
    tolerance: float
    waited: float
    regions: frozenset[int]
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a match must satisfy."""

    sizes: tuple[int, ...]
    team_count: int
    min_after_s: float


def violations(
    matches: Sequence[tuple[Sequence[int], Sequence[int]]],
    searchers: Sequence[Searcher],
    limits: Limits,
) -> list[str]:
    """Everything wrong with (players, teams) lists; players are indices into `searchers`."""
    wrong: list[str] = []
    seen = Counter(player for players, _ in matches for player in players)
    wrong.extend(f"player {player} is in {n} places" for player, n in seen.items() if n > 1)
    for number, (players, teams) in enumerate(matches):
        people = [searchers[player] for player in players]
        wrong.extend(f"match {number}: {problem}" for problem in _match(people, teams, limits))
    return wrong


def _match(people: Sequence[Searcher], teams: Sequence[int], limits: Limits) -> list[str]:
    wrong: list[str] = []
    if len(people) not in limits.sizes:
        return [f"{len(people)} players"]
    if len(people) < max(limits.sizes) and max(p.waited for p in people) < limits.min_after_s:
        wrong.append("small although nobody has waited long enough")
    highest, lowest = max(p.skill for p in people), min(p.skill for p in people)
    wrong.extend(
        f"skill {p.skill} with {p.tolerance} meets {lowest} to {highest}"
        for p in people
        if max(highest - p.skill, p.skill - lowest) > p.tolerance
    )
    if len({p.partition for p in people}) > 1:
        wrong.append("mixes partitions")
    if not frozenset.intersection(*(p.regions for p in people)):
        wrong.append("no region allowed by all")
    return wrong + _teams(teams, len(people), limits)


def _teams(teams: Sequence[int], players: int, limits: Limits) -> list[str]:
    count = limits.team_count or players
    sizes = Counter(teams)
    if len(teams) != players or set(sizes) != set(range(count)) or len(set(sizes.values())) > 1:
        return [f"teams {list(teams)} are not {count} equal ones"]
    return []
