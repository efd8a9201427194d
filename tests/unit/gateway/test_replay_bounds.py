"""How slowly and how fast recordings are played, and how many at a time."""

from __future__ import annotations

import asyncio

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


class Reader:
    """A stream whose client reads after a while."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.abandoned = False

    async def wait_writable(self) -> None:
        await asyncio.sleep(self.after_s)

    def abandon(self, *, within_s: float) -> None:
        self.abandoned = True


def test_client_that_does_not_read_gives_up_its_place() -> None:
    async def scenario() -> None:
        places, slow, stuck = replays.Places(1), Reader(0.0), Reader(3600.0)
        with places.held():
            await replays.wait_read(slow, within_s=5.0)  # type: ignore[arg-type]  # enough of one
        with pytest.raises(errors.ResourceExhausted, match="SLOW_CONSUMER"), places.held():
            await replays.wait_read(stuck, within_s=0.01)  # type: ignore[arg-type]
        with places.held():
            assert (slow.abandoned, stuck.abandoned) == (False, True)

    asyncio.run(scenario())


def test_places_are_given_back() -> None:
    places = replays.Places(1)
    for _ in range(2):
        with (
            places.held(),
            pytest.raises(errors.ResourceExhausted, match="REPLAYS_EXCEEDED"),
            places.held(),
        ):
            pass
