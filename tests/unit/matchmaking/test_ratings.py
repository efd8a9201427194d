"""Ratings move the right way, for every shape of match."""

from __future__ import annotations

import pytest

from rallypoint.matchmaking.domain import ratings
from rallypoint.matchmaking.domain.ratings import Placing, Skill


def test_the_winner_gains_what_the_loser_loses() -> None:
    after = ratings.rate("m1", [Placing("a", 0, 1), Placing("b", 1, 2)], {})
    assert after["a"].display > 1500 > after["b"].display
    assert after["a"].last_change == after["a"].display - 1500
    assert (after["a"].matches, after["a"].last_match_id) == (1, "m1")
    assert after["a"].sigma < ratings.START_SIGMA


def test_a_draw_of_equals_moves_nobody() -> None:
    after = ratings.rate("m1", [Placing("a", 0, 1), Placing("b", 1, 1)], {})
    assert [after[name].display for name in "ab"] == [1500, 1500]


def test_free_for_all_is_ordered_by_rank() -> None:
    placings = [Placing(name, team, team + 1) for team, name in enumerate("abcd")]
    after = ratings.rate("m1", placings, {})
    shown = [after[name].display for name in "abcd"]
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) == 4


def test_team_mates_rise_together() -> None:
    placings = [Placing("a", 0, 1), Placing("b", 0, 1), Placing("c", 1, 2), Placing("d", 1, 2)]
    after = ratings.rate("m1", placings, {"b": Skill(mu=30.0)})
    assert after["a"].last_change > 0
    assert after["b"].last_change > 0
    assert after["c"].last_change < 0


def test_beating_a_stronger_player_gains_more() -> None:
    equal = ratings.rate("m", [Placing("a", 0, 1), Placing("b", 1, 2)], {})
    upset = ratings.rate("m", [Placing("a", 0, 1), Placing("b", 1, 2)], {"b": Skill(mu=35.0)})
    assert upset["a"].last_change > equal["a"].last_change


@pytest.mark.parametrize("placings", [[], [Placing("a", 0, 1)], [Placing("a", 0, 1)] * 2])
def test_fewer_than_two_teams_change_nothing(placings: list[Placing]) -> None:
    assert ratings.rate("m1", placings, {}) == {}


def test_display_is_rounded() -> None:
    assert Skill(mu=25.0).display == 1500
    assert Skill(mu=26.01).display == 1540
