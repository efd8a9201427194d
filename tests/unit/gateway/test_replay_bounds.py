"""How slowly and how fast recordings are played, and how many at a time."""

from __future__ import annotations

import pytest

from rallypoint.gateway import replays
from rallypoint.kit import errors


@pytest.mark.parametrize("speed", [0.0, -0.0, 1 / 16, 1.0, 64.0])
def test_speed_within_the_bounds_is_taken(speed: float) -> None:
    replays.Pace(speed, replays.ReplaySettings(), lambda: 0.0)


@pytest.mark.parametrize("speed", [1e-300, 0.06, 64.1, -1.0, float("nan"), float("inf")])
def test_speed_out_of_bounds_is_refused(speed: float) -> None:
    with pytest.raises(errors.InvalidArgument, match="SPEED_INVALID"):
        replays.Pace(speed, replays.ReplaySettings(), lambda: 0.0)


def test_places_are_given_back() -> None:
    places = replays.Places(1)
    for _ in range(2):
        with (
            places.held(),
            pytest.raises(errors.ResourceExhausted, match="REPLAYS_EXCEEDED"),
            places.held(),
        ):
            pass
