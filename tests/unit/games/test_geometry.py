"""Geometry: what each question means, and that C and numpy answer with the same bits.

Arrays that are not contiguous take the way of numpy, so each answer is asked for twice.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.geometry import Circles, Flight, Ground, Steps, Targets, put_rows, touching
from rallypoint.games.schema import Array

SEEDS = st.integers(0, 2**32)
CIRCLES = ((40.0, 25.0, 6.0), (80.0, 45.0, 9.0), (0.0, 0.0, 3.0))


def spread(values: Array) -> Array:
    """The same numbers, not contiguous."""
    wide = np.zeros((*values.shape, 2), values.dtype)
    wide[..., 0] = values
    return wide[..., 0]


def some(rng: np.random.Generator, *shape: int) -> Array:
    """Positions on whole numbers, so that edges are met exactly, some of them odd."""
    numbers = rng.integers(-10, 110, shape).astype(np.float64)
    odd = rng.random(shape)
    numbers[odd < 0.02] = np.nan
    numbers[odd > 0.98] = np.inf
    return numbers + np.where(odd < 0.5, rng.random(shape), 0.0)


def bits(values: Array) -> list[int]:
    return np.ascontiguousarray(values).view(np.uint64).reshape(-1).tolist()


@settings(max_examples=50)
@given(SEEDS)
@np.errstate(all="ignore")
def test_pushing_out_gives_the_same_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = some(rng, 6, 8), some(rng, 6, 8)
    circles = Circles(CIRCLES, wider=2.5)
    other_x, other_y = spread(x), spread(y)
    circles.push_out(x, y)
    circles.push_out(other_x, other_y)
    finite = np.isfinite(x) & np.isfinite(y)
    assert bits(x[finite]) == bits(other_x[finite])
    assert bits(y[finite]) == bits(other_y[finite])


@settings(max_examples=50)
@given(SEEDS)
@np.errstate(all="ignore")
def test_who_is_inside_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = some(rng, 90), some(rng, 90)
    circles = Circles(CIRCLES)
    assert circles.inside(x, y).tolist() == circles.inside(spread(x), spread(y)).tolist()


@settings(max_examples=80)
@given(SEEDS)
@np.errstate(all="ignore")
def test_whom_a_step_meets_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, there = some(rng, 5, 7), some(rng, 5, 7), rng.integers(0, 3, (5, 7)).astype(np.uint8)
    room, owner = rng.integers(0, 5, 60), rng.integers(-1, 7, 60)
    from_x, from_y, angle = some(rng, 60), some(rng, 60), rng.integers(0, 8, 60) * np.pi / 4
    dx, dy = np.cos(angle) * 45.0, np.sin(angle) * 45.0
    steps = Steps(room, owner, from_x, from_y, dx, dy, 45.0)
    radius = float(rng.integers(1, 30))
    found = steps.first_met(x, y, there, radius=radius)
    assert found.tolist() == steps.first_met(x, spread(y), there, radius=radius).tolist()


@settings(max_examples=50)
@given(SEEDS)
@np.errstate(all="ignore")
def test_who_touches_what_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (some(rng, 5, 7), some(rng, 5, 7)), (some(rng, 5, 4), some(rng, 5, 4))
    found = touching(one, other, radius=12.0)
    assert found == touching((spread(one[0]), one[1]), other, radius=12.0)


@settings(max_examples=80)
@given(SEEDS)
@np.errstate(all="ignore")
def test_who_walks_gets_to_the_same_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground = Ground((2.0, 3.0), (96.0, 52.0), CIRCLES, wider=float(rng.integers(0, 5)))
    x, y = some(rng, 6, 8), some(rng, 6, 8)
    dtype = rng.choice(["f8", "i1", "u1", "i2"])
    dx, dy = rng.integers(-100, 100, (2, 6, 8)).astype(dtype)
    moving = rng.random((6, 8)) < 0.7
    other_x, other_y = spread(x), spread(y)
    ground.walk((x, y), (dx, dy), moving, full=100.0, step=13.0)
    ground.walk((other_x, other_y), (dx, dy), moving, full=100.0, step=13.0)
    finite = np.isfinite(x) & np.isfinite(y)
    assert finite.tolist() == (np.isfinite(other_x) & np.isfinite(other_y)).tolist()
    assert bits(x[finite]) == bits(other_x[finite])
    assert bits(y[finite]) == bits(other_y[finite])


@settings(max_examples=80)
@given(SEEDS)
@np.errstate(all="ignore")
def test_what_flies_meets_and_ends_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground = Ground((0.0, 0.0), (100.0, 60.0), CIRCLES)
    targets = Targets(some(rng, 5, 7), some(rng, 5, 7), rng.integers(0, 3, (5, 7)).astype("u1"))
    angle = rng.integers(0, 16, (5, 21)) * np.pi / 8
    left, live = rng.integers(0, 4, (5, 21)).astype("i4"), rng.integers(0, 2, (5, 21)).astype("u1")
    place = some(rng, 5, 21), some(rng, 5, 21)
    flight = Flight(*place, np.cos(angle) * 45.0, np.sin(angle) * 45.0, left, live)
    other = Flight(*map(spread, flight))
    how = {"each": int(rng.choice([0, 3])), "radius": float(rng.integers(1, 30)), "length": 45.0}
    flying = rng.random((5, 21)) < 0.6
    found = ground.fly(flight, flying, targets, **how)  # type: ignore[arg-type]
    assert found == ground.fly(other, flying, targets, **how)  # type: ignore[arg-type]
    for one, two in zip(flight, other, strict=True):
        assert np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def test_walker_stays_on_the_ground() -> None:
    ground = Ground((0.0, 0.0), (100.0, 60.0), CIRCLES)
    x, y = np.array([[1.0, 50.0, 33.0]]), np.array([[9.0, 59.0, 25.0]])
    way = np.array([[-100, 100, 100]], "i1"), np.array([[0, 100, 0]], "i1")
    ground.walk((x, y), way, np.array([[True, True, True]]), full=100.0, step=13.0)
    assert x.tolist() == [
        [0.0, 50.0 + 13.0 / 2**0.5, 46.0]
    ]  # the last one at the circle's far edge
    assert y.tolist() == [[9.0, 60.0, 25.0]]


def test_flight_ends_at_the_first_one_met() -> None:
    ground = Ground((0.0, 0.0), (100.0, 60.0))
    flight = Flight(
        *(np.array([[10.0, 10.0]]) for _ in range(2)), np.array([[20.0, 20.0]]),
        np.zeros((1, 2)), np.array([[5, 5]], "i4"), np.ones((1, 2), "u1"),
    )  # fmt: skip
    targets = Targets(np.array([[25.0, 15.0]]), np.full((1, 2), 10.0), np.ones((1, 2), "u1"))
    every = np.ones((1, 2), np.bool_)
    met = ground.fly(flight, every, targets, each=1, radius=2.0, length=20.0)
    assert met == [(0, 0, 1), (0, 1, 0)]  # the nearer one is the second row's own
    assert flight.live.tolist() == [[0, 0]]
    assert flight.x.tolist() == [[30.0, 30.0]]


def test_point_in_a_circle_goes_to_its_edge() -> None:
    x, y = np.array([[42.0, 60.0]]), np.array([[25.0, 25.0]])
    Circles(CIRCLES).push_out(x, y)
    assert (x.tolist(), y.tolist()) == ([[46.0, 60.0]], [[25.0, 25.0]])


def test_step_meets_the_nearest_but_not_its_owner() -> None:
    x, y = np.array([[0.0, 30.0, 20.0, 10.0]]), np.zeros((1, 4))
    there = np.array([[1, 1, 1, 0]], np.uint8)
    zero = np.zeros(1, np.int64)
    step = Steps(zero, zero, np.zeros(1), np.zeros(1), np.full(1, 45.0), np.zeros(1), 45.0)
    assert step.first_met(x, y, there, radius=2.0).tolist() == [2]
    assert step.first_met(x, y + 5.0, there, radius=2.0).tolist() == [-1]


def test_touching_tells_room_and_rows() -> None:
    one = np.array([[0.0, 9.0], [5.0, 1.0]])
    other = np.array([[9.5, 50.0], [1.5, 5.5]])
    found = touching((one, np.zeros((2, 2))), (other, np.zeros((2, 2))), radius=1.0)
    assert found == [(0, 1, 0), (1, 0, 1), (1, 1, 0)]


def test_step_in_no_room_is_an_error() -> None:
    one = np.zeros(1)
    step = Steps(np.full(1, 3), np.full(1, -1), one, one, one, one, 1.0)
    with pytest.raises(IndexError):
        step.first_met(np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 2), np.uint8), radius=1.0)


@settings(max_examples=50)
@given(SEEDS, st.integers(0, 9))
def test_rows_are_put_as_by_assignment(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    at = rng.permutation(12)[:count]
    for dtype in (np.uint8, np.uint16, np.int32, np.float64):
        column, other = np.zeros(12, dtype), spread(np.zeros(12, dtype))
        each, one = rng.integers(0, 99, count).astype(dtype), np.array(7, dtype)
        expected = np.zeros((2, 12), dtype)
        expected[0, at], expected[1, at] = each, one
        put_rows(at, (column, each), (other, one))
        assert [column.tolist(), other.tolist()] == expected.tolist()


def test_rows_that_are_not_there_are_refused() -> None:
    column = np.zeros(3)
    with pytest.raises(IndexError):
        put_rows(np.array([0, 3]), (column, np.ones(2)))
    put_rows(np.array([-1]), (column, np.array([2], np.int32)))
    assert column[2] == 2.0, "what C does not know is left to numpy"
