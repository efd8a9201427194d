"""Looking back: what a player saw, against a plain model; never further than is allowed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.columns import Table, q16, u8
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.rewind import MOST_S, Past
from rallypoint.games.room import Rooms, Seat

SEATS, HZ = 3, 20
MOST = MOST_S * HZ
PLACES = st.floats(-1e6, 1e6, width=32)
DELAYS = st.floats(-5, 60) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, 10.0])


class Ships(Table):
    x = q16(-1e6, 1e6)
    y = q16(-1e6, 1e6)
    hp = u8()


class Chase(ColumnGame):
    info = GameInfo(name="chase", tick_hz=HZ, max_players=SEATS, late_join=True)
    tables = (Ships,)
    rewinds = {Ships: ("x", "y")}  # noqa: RUF012  # as games declare it
    asked: Any = None
    jumped: Any = None

    def on_tick(self, rooms: Rooms) -> None:
        ships = rooms.table(Ships)
        ships.x[...], ships.y[...] = self.place
        past = rooms.rewind(Ships)
        if self.jumped is not None:
            past.forget(*self.jumped)
        if self.asked is not None:
            room, delay = self.asked
            self.told = past.at(room, delay)
        every = np.arange(SEATS)
        self.delays = past.delay(np.zeros(SEATS, int), every)


class World:
    """One room, and what was where at each of its ticks."""

    def __init__(self) -> None:
        self.table = RoomTable(define(Chase), capacity=2)
        seats = [Seat(slot, f"p{slot}", "P", slot) for slot in range(SEATS)]
        self.slot = self.table.open(RoomSpec(id="room", seats=seats))
        for seat in range(SEATS):
            self.table.join(self.slot, seat)
        host: Any = self.table._host
        self.game: Chase = host._game
        self.was: list[float] = []

    def step(self, x: float, *, delay: float | None = None) -> None:
        self.game.place = (x, -x)
        self.game.asked = None if delay is None else (np.array([self.slot]), np.array([delay]))
        self.was.append(x)
        self.table.step()

    def expected(self, delay: float, *, since: int = 0) -> float:
        """x so many ticks before the last one, by plain arithmetic."""
        delay = 0.0 if np.isnan(delay) else min(max(delay, 0.0), MOST)
        at = max(len(self.was) - 1 - delay, since)
        low = int(at)
        high = min(low + 1, len(self.was) - 1)
        return self.was[low] + (self.was[high] - self.was[low]) * (at - low)


@settings(max_examples=60)
@given(st.lists(PLACES, min_size=1, max_size=50), DELAYS)
def test_places_of_before_are_what_they_were(places: list[float], delay: float) -> None:
    world = World()
    for x in places[:-1]:
        world.step(x)
    world.step(places[-1], delay=delay)
    x, y = world.game.told
    assert x.shape == y.shape == (1, SEATS)
    assert np.isfinite(x).all()
    expected = world.expected(delay)
    assert x == pytest.approx(np.full((1, SEATS), expected), rel=1e-9, abs=1e-6)
    assert y == pytest.approx(-x)


def test_who_came_later_or_jumped_has_no_past() -> None:
    world = World()
    for x in range(10):
        world.step(float(x))
    world.table.drop(world.slot, 1)
    world.table.join(world.slot, 1)  # before the next tick: nothing to notice
    world.game.jumped = (np.array([world.slot]), np.array([2]))
    world.step(100.0, delay=5.0)
    world.game.jumped = None
    assert world.game.told[0].tolist() == [[5.0, 5.0, 100.0]]
    world.step(101.0, delay=5.0)
    assert world.game.told[0].tolist() == [[6.0, 6.0, 100.0]]
    world.table.leave(world.slot, 0, "LEFT")
    world.step(102.0)
    world.step(103.0, delay=5.0)
    assert world.game.told[0].tolist() == [[102.0, 8.0, 100.0]]


def test_room_that_begins_or_goes_on_here_has_no_past() -> None:
    world = World()
    for x in range(10):
        world.step(float(x))
    saved = world.table.snapshot(world.slot)
    world.table.release(world.slot)
    spec = RoomSpec(id="other", seats=[])
    world.slot = world.table.restore(spec, saved)
    world.step(50.0, delay=5.0)
    assert world.game.told[0].tolist() == [[50.0] * SEATS]
    world.step(60.0, delay=0.5)
    assert world.game.told[0].tolist() == [[55.0] * SEATS]


@pytest.mark.parametrize(
    ("ack", "view_ms", "delay"),
    [
        (30, 0, 0.0),
        (30, 1_400, 3.0),
        (30, 1_425, 2.5),
        (27, 1_500, 4.0),
        (30, 100, MOST),
        (30, 90_000, 1.0),
        (4_000_000_000, 4_000_000_000, 0.0),
    ],
    ids=["not said", "seen", "between", "not acked", "too old", "ahead", "nonsense"],
)
def test_clients_are_believed_within_bounds(ack: int, view_ms: int, delay: float) -> None:
    world = World()
    for _ in range(30):
        world.step(0.0)
    world.table.rings.heard.hear(1, ack_tick=ack, view_ms=view_ms, margin_ms=0)
    world.step(0.0)
    assert world.game.delays.tolist() == [0.0, delay, 0.0]


WHOLE = [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(WHOLE), st.floats(0, 5))
def test_whole_numbers_never_wrap(data: st.DataObject, dtype: Any, delay: float) -> None:
    info = np.iinfo(dtype)
    was = data.draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1, max_size=8))
    column = np.zeros((1, 1), dtype)
    past = Past([column], tick_hz=HZ)
    for past.now, value in enumerate(was):
        column[...] = value
        past.remember(past.now)
    (found,) = past.at(np.array([0]), np.array([delay]))
    at = max(len(was) - 1 - delay, 0)
    expected = np.interp(at, np.arange(len(was)), was)
    assert found[0, 0] == pytest.approx(expected, rel=1e-9, abs=1e-6)
