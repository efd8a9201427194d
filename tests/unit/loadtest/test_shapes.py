"""Shapes say how many players there are, and when everybody reconnects."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loadtest import shapes, tally


@pytest.mark.parametrize("name", sorted(shapes.PROFILES))
def test_points_rise_from_begin_to_end_of_the_run(name: str) -> None:
    points = shapes.PROFILES[name].points
    assert (points[0][0], points[-1][0]) == (0.0, 1.0)
    assert all(before[0] < after[0] for before, after in itertools.pairwise(points))
    assert max(share for _, share in points) == 1.0


@given(st.sampled_from(sorted(shapes.PROFILES)), st.floats(-1, 2), st.integers(1, 5000))
def test_players_are_never_none_nor_more_than_asked_for(name: str, gone: float, most: int) -> None:
    assert 1 <= shapes.users(shapes.PROFILES[name], gone, most) <= most


@pytest.mark.parametrize(
    ("name", "gone", "players"),
    [("steady", 0.0, 100), ("ramp", 0.4, 50), ("spike", 0.5, 100), ("day", 20 / 24, 95)],
)
def test_shape_at_a_moment(name: str, gone: float, players: int) -> None:
    assert shapes.users(shapes.PROFILES[name], gone, 100) == pytest.approx(players, abs=1)


def test_each_storm_breaks_out_once() -> None:
    profile = shapes.PROFILES["reconnect-storm"]
    looks = [n / 100 for n in range(101)]
    assert (
        sum(itertools.starmap(lambda a, b: shapes.storms(profile, a, b), itertools.pairwise(looks)))
        == 2
    )


def test_tally_is_drained_once() -> None:
    counted = tally.Tally()
    counted.took("grpc-web", "join", 0.0414)
    counted.took("grpc-web", "join", 0.0406)
    counted.failed("grpc-web", "join", "ROOM_FULL", times=3)
    assert counted.drain() == {
        "times": [["grpc-web", "join", [(41, 2)]]],
        "failures": [["grpc-web", "join", "ROOM_FULL", 3]],
    }
    assert counted.drain() == {"times": [], "failures": []}
