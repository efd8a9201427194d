"""Teams are equal in size and as close in skill as can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rallypoint.matchmaking.domain import teams


def gap(skill: np.ndarray, team: np.ndarray) -> float:
    return abs(float(skill[team == 0].sum() - skill[team == 1].sum()))


def test_two_teams_are_the_best_split_there_is() -> None:
    skill = np.random.default_rng(5).normal(1500, 200, (300, 6))
    split = teams.split(skill, 2)
    for row, team in zip(skill, split, strict=True):
        best = min(
            gap(row, np.isin(np.arange(6), half).astype(int))
            for half in itertools.combinations(range(6), 3)
        )
        assert gap(row, team) == pytest.approx(best)


@pytest.mark.parametrize(("players", "count"), [(12, 3), (16, 2), (8, 4)])
def test_larger_shapes_get_equal_teams(players: int, count: int) -> None:
    skill = np.random.default_rng(5).normal(1500, 200, (20, players))
    for team in teams.split(skill, count):
        assert np.bincount(team, minlength=count).tolist() == [players // count] * count


def test_alone_means_one_team_each() -> None:
    assert teams.split(np.zeros((2, 3)), 0).tolist() == [[0, 1, 2], [0, 1, 2]]
