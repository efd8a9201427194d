"""The matcher against arbitrary pools: whatever comes in, every match keeps the rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.matchmaking.domain import check, columns, matching
from rallypoint.matchmaking.domain.entry import Entry

NOW = 10_000.0
WAITS, REACHES = (0.0, 10.0, 30.0), (50.0, 200.0, 800.0)

tickets = st.lists(
    st.tuples(
        st.sampled_from([1500.0, 1500.0, 1510.5, 1600.0]) | st.floats(0.0, 3000.0),
        st.sampled_from([0.0, 5.0, 12.0, 40.0]) | st.floats(0.0, 60.0),
        st.integers(0, 3),
        st.integers(0, 15),
        st.integers(0, 1),
    ),
    max_size=120,
)
shapes = st.sampled_from([((2,), 0), ((8, 7, 6, 5, 4, 3, 2), 0), ((10, 8, 6, 4), 2), ((9,), 3)])


def pool_of(rows: list[tuple[float, float, int, int, int]]) -> columns.Pool:
    pool = columns.Pool(4)
    for number, (skill, waited, home, others, partition) in enumerate(rows):
        entry = Entry(
            ticket_id=str(number),
            skill=skill,
            search_start=NOW - waited,
            region=home,
            regions=(1 << home) | others,
            partition=partition,
        )
        pool.add(entry)
    return pool


def judged(pool: columns.Pool, rules: matching.Rules) -> tuple[list[list[int]], list[str]]:
    view, _ = pool.view()
    groups = matching.find(view, rules, NOW)
    waited = np.maximum(NOW - view.search_start, 0)
    searchers = [
        check.Searcher(
            skill=float(view.skill[row]),
            tolerance=float(np.interp(waited[row], rules.waits, rules.reaches)),
            waited=float(waited[row]),
            regions=frozenset(bit for bit in range(64) if int(view.regions[row]) >> bit & 1),
            partition=int(view.partition[row]),
        )
        for row in range(len(view))
    ]
    matches = [
        (players, teams)
        for group in groups
        for players, teams in zip(group.rows.tolist(), group.teams.tolist(), strict=True)
    ]
    limits = check.Limits(rules.sizes, rules.team_count, rules.min_after_s)
    return [players for players, _ in matches], check.violations(matches, searchers, limits)


@settings(max_examples=150)
@given(rows=tickets, shape=shapes)
def test_every_match_keeps_the_rules(
    rows: list[tuple[float, float, int, int, int]], shape: tuple[tuple[int, ...], int]
) -> None:
    rules = matching.Rules(shape[0], shape[1], 4.0, WAITS, REACHES)
    _, wrong = judged(pool_of(rows), rules)
    assert wrong == []


@settings(max_examples=80)
@given(rows=tickets)
def test_no_two_neighbors_that_accept_each_other_stay_behind(
    rows: list[tuple[float, float, int, int, int]],
) -> None:
    same_place = [(skill, waited, 0, 1, 0) for skill, waited, *_ in rows]
    pool = pool_of(same_place)
    rules = matching.Rules((2,), 0, 0.0, WAITS, REACHES)
    matches, _ = judged(pool, rules)
    matched = {player for match in matches for player in match}
    left = sorted(row[0] for number, row in enumerate(same_place) if number not in matched)
    assert all(b - a > REACHES[0] for a, b in itertools.pairwise(left))


def test_finding_twice_gives_the_same_matches() -> None:
    random = np.random.default_rng(7)
    rows = [(float(s), 0.0, 0, 1, 0) for s in random.normal(1500, 300, 500)]
    rules = matching.Rules((10,), 2, 0.0, WAITS, REACHES)
    assert judged(pool_of(rows), rules) == judged(pool_of(rows), rules)


@pytest.mark.parametrize("players", [0, 1])
def test_too_few_players_match_nobody(players: int) -> None:
    rules = matching.Rules((2,), 0, 0.0, WAITS, REACHES)
    assert judged(pool_of([(1500.0, 0.0, 0, 1, 0)] * players), rules) == ([], [])
