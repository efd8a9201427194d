"""Rings in C let a game see what those in Python let it see, whatever comes in whatever order."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.columns import (  # fmt: skip
    Column,
    Input,
    f32,
    flag,
    hidden,
    i8,
    i16,
    i32,
    q8,
    q16,
    u8,
    u16,
    u32,
)
from rallypoint.games.inputs import MAX_JUMP, RING, InputRings
from rallypoint.games.rings import COMPILED, CompiledRings, make

pytestmark = pytest.mark.skipif(not COMPILED, reason="no rings in C here")

SEATS = 6
COLUMNS = st.sampled_from(
    [
        u8, u16, u32, i8, i16, i32, f32, flag, hidden,
        lambda: u8(3, 200), lambda: u8(None, 9), lambda: u16(9), lambda: i8(-100, 100),
        lambda: i16(-5, 5), lambda: i32(-(2**31), 7), lambda: u32(2, 2**32 - 1),
        lambda: f32(-200, 200), lambda: f32(0.1), lambda: q8(-1, 1), lambda: q16(-3.5, 1e5),
    ]
)  # fmt: skip


def offer(rng: random.Random, ring: InputRings, other: InputRings, seqs: list[int]) -> None:
    """The same to both: mostly the next inputs, sometimes old, far ahead or of a wrong size."""
    seat = rng.randrange(SEATS)
    count = rng.choice([0, 1, 1, 1, 2, 3, 8, RING])
    first = max(0, seqs[seat] + rng.choice([1, 1, 1, 1, 0, -3, 2, MAX_JUMP, MAX_JUMP * 3]))
    inputs = [rng.randbytes(ring.size + (rng.random() < 0.05)) for _ in range(count)]
    if first <= seqs[seat] + MAX_JUMP:
        seqs[seat] = max(seqs[seat], first + count - 1)
    for each in (ring, other):
        each.offer(seat, first, inputs)


def same(ring: InputRings, other: InputRings) -> None:
    assert ring.refused == other.refused
    assert np.array_equal(ring.applied, other.applied)
    assert np.array_equal(ring.fresh, other.fresh)
    for one, two in zip(ring._values(), other._values(), strict=True):
        assert np.array_equal(one, two)
    assert ring.saved(0, SEATS) == other.saved(0, SEATS)


@settings(max_examples=80)
@given(
    columns=st.lists(COLUMNS, max_size=6),
    idle=st.sampled_from(["zero", "repeat"]),
    seed=st.integers(0, 2**32),
)
def test_both_rings_do_the_same(columns: list[object], idle: str, seed: int) -> None:
    made = {f"c{number}": column() for number, column in enumerate(columns)}  # type: ignore[operator]
    kind = type("Made", (Input,), made, idle=idle)
    ring, other = InputRings(kind, 2, SEATS // 2), CompiledRings(kind, 2, SEATS // 2)
    rng, seqs = random.Random(seed), [0] * SEATS
    for _ in range(40):
        what, seat = rng.random(), rng.randrange(SEATS)
        if what < 0.6:
            offer(rng, ring, other, seqs)
        elif what < 0.9:
            ring.take()
            other.take()
        elif what < 0.94:
            seq = rng.choice([None, 0, 77])
            ring.reset(seat, seq)
            other.reset(seat, seq)
            seqs[seat] = int(ring.applied[seat])
        elif what < 0.97:
            ring.release(seat)
            other.release(seat)
        else:
            (saved,), to = ring.saved(seat), rng.randrange(SEATS)
            ring.restore(to, saved)
            other.restore(to, saved)
            seqs[to] = saved.newest
        with np.errstate(all="ignore"):
            same(ring, other)


def test_odd_columns_stay_with_python() -> None:
    class Odd(Input):
        half = Column(u8().kind, "u1", 0, 1.5)

    class Plain(Input):
        whole = u8(0, 2)

    assert type(make(Odd, 1, 1)) is InputRings
    assert type(make(Plain, 1, 1)) is CompiledRings


def test_wrong_calls_are_refused() -> None:
    class Plain(Input):
        whole = u8(0, 2)

    native = CompiledRings(Plain, 1, 2).native
    with pytest.raises(IndexError):
        native.offer(2, 1, [b"x"])
    with pytest.raises(TypeError):
        native.offer(0, 1, ["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="another size"):
        native.wait(0, 1, b"xx")
