"""The encoder in C writes what the one with numpy writes: any schema, any values, any change."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.arena import Arena, Layout
from rallypoint.games.columns import Column, Table
from rallypoint.games.encoder import EncoderTable, NumpyEncoder
from rallypoint.games.schema import Kind, TableSpec, Visibility
from rallypoint.games.sections import COMPILED, CompiledEncoder

pytestmark = pytest.mark.skipif(not COMPILED, reason="no encoder in C here")

ROOMS = 4
DTYPES = {
    Kind.U8: "u1", Kind.U16: "u2", Kind.U32: "u4", Kind.I8: "i1", Kind.I16: "i2",
    Kind.I32: "i4", Kind.F32: "f4", Kind.Q8: "f8", Kind.Q16: "f8",
}  # fmt: skip
BOUNDS = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
COLUMNS = st.tuples(st.sampled_from([None, *Kind]), BOUNDS)
SHARED = st.tuples(st.integers(1, 70), st.just(Visibility.SHARED))
SEATED = st.tuples(st.integers(1, 9), st.sampled_from([Visibility.SHARED, Visibility.OWNER]))
TABLES = st.tuples(SHARED | SEATED, st.lists(COLUMNS, min_size=1, max_size=20))


def table(columns: Sequence[tuple[Kind | None, tuple[float, float]]]) -> type[Table]:
    made = {}
    for number, (kind, (low, span)) in enumerate(columns):
        quantized = kind is not None and kind.quantized
        bounds = (low, low + span) if quantized else (None, None)
        made[f"c{number}"] = Column(kind, DTYPES[kind] if kind else "i8", *bounds)
    return type("Made", (Table,), made)


def values(rng: random.Random, size: int) -> np.ndarray:
    """Numbers around the bounds, halves of steps among them, and what is no number."""
    odd = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300]
    return np.array(
        [rng.choice(odd) if rng.random() < 0.1 else rng.uniform(-2e6, 2e6) for _ in range(size)]
    )


def change(arena: Arena, rng: random.Random) -> None:
    """Some cells of every run get other bytes; of quantized columns some halves of steps."""
    for runs in arena.runs.values():
        for run in runs:
            flat = run.values.reshape(len(run.columns), -1)
            for column, row in zip(run.columns, flat, strict=True):
                at = np.array([rng.random() < 0.3 for _ in range(row.size)])
                if column.kind is not None and column.kind.quantized:
                    low, high = column.spec().minimum, column.spec().maximum
                    top = 255 if column.kind is Kind.Q8 else 65535
                    share = rng.randrange(-2, 600) / 2 / top
                    row[at] = values(rng, int(at.sum()))
                    row[at & (np.arange(row.size) % 2 == 0)] = low + (high - low) * share
                else:
                    octets = row.view("u1").reshape(row.size, -1)
                    octets[at] = rng.randbytes(1)[0]


@settings(max_examples=60)
@given(shape=st.lists(TABLES, min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_both_encoders_write_the_same_bytes(
    shape: list[tuple[tuple[int, Visibility], list[tuple[Kind | None, tuple[float, float]]]]],
    seed: int,
) -> None:
    rng = random.Random(seed)
    who = shape[0][0][1]
    rows = shape[0][0][0]
    layouts = [
        Layout(table(columns), rows if who is Visibility.OWNER else own)
        for (own, _), columns in shape
    ]
    arena = Arena(layouts, ROOMS)
    tables: list[EncoderTable] = []
    for number, layout in enumerate(layouts):
        sent = tuple(column.spec() for column in layout.table.sent())
        if sent:
            spec = TableSpec(number, f"t{number}", layout.rows, sent, who)
            tables.append((spec, arena.runs[layout.table]))
    lanes = ROOMS * rows if who is Visibility.OWNER else ROOMS
    one, other = NumpyEncoder(tables, lanes), CompiledEncoder(tables, lanes)
    for _ in range(6):
        with np.errstate(all="ignore"):
            change(arena, rng)
            some = rng.randint(1, lanes)
            assert one.deltas(some) == other.deltas(some)
            picked = [rng.randrange(lanes) for _ in range(rng.randint(1, 4))]
            assert one.keyframes(picked) == other.keyframes(picked)
        if rng.random() < 0.3:
            room = rng.randrange(ROOMS)
            arena.clear_room(room)
            each = lanes // ROOMS
            for encoder in (one, other):
                encoder.forget(slice(room * each, (room + 1) * each))


def test_wrong_lanes_are_refused() -> None:
    encoder = CompiledEncoder([], 2)
    assert encoder.deltas(2) == [b"", b""]
    with pytest.raises(IndexError):
        encoder.deltas(3)
    with pytest.raises(IndexError):
        encoder.keyframes([2])
    with pytest.raises(IndexError):
        encoder.forget(slice(0, 3))
