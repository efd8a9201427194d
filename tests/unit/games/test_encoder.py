"""Each encoder and the decoder agree, whatever changes."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rallypoint.games import codec, schema
from rallypoint.games.arena import Arena, Layout
from rallypoint.games.columns import (
    Table,
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
)  # fmt: skip
from rallypoint.games.encoder import EncoderTable, NumpyEncoder
from rallypoint.games.harness import fields
from rallypoint.games.schema import Schema, TableSpec, Visibility
from rallypoint.games.sections import COMPILED, CompiledEncoder, SectionEncoder

ROOMS = 5
Make = Callable[[Sequence[EncoderTable], int], SectionEncoder]
needs_compiler = pytest.mark.skipif(not COMPILED, reason="no encoder in C here")


@pytest.fixture(params=["numpy", pytest.param("compiled", marks=needs_compiler)])
def make(request: pytest.FixtureRequest) -> Make:
    return CompiledEncoder if request.param == "compiled" else NumpyEncoder


class Small(Table, rows=3):
    a = u8()
    b = q16(-10, 10)
    c = q16(0, 1)
    secret = hidden("i8")
    d = flag()


class Wide(Table, rows=19):
    a = i8()
    b = i16()
    c = i32()
    d = u16()
    e = u32()
    f = f32()
    g = q8(0, 255)
    h = u8()
    i = u8()
    j = u8()


class World:
    """An encoder for some rooms, and a decoder per room."""

    def __init__(self, make: Make) -> None:
        layouts = [Layout(Small, 3), Layout(Wide, 19)]
        self.arena = Arena(layouts, ROOMS)
        specs = [
            TableSpec(
                number,
                layout.table.wire_name,
                layout.rows,
                tuple(column.spec() for column in layout.table.sent()),
            )
            for number, layout in enumerate(layouts)
        ]
        tables = [
            (spec, self.arena.runs[lay.table]) for spec, lay in zip(specs, layouts, strict=True)
        ]
        self.schema = Schema(tuple(specs))
        self.encoder = make(tables, ROOMS)
        self.decoders = [codec.Decoder(self.schema) for _ in range(ROOMS)]

    def set(self, table: type[Table], column: str, room: int, row: int, value: float) -> None:
        array = self.arena.bind(table, room).arrays[column]
        array[row] = np.array(value).astype(array.dtype)

    def publish(self, rooms: int = ROOMS) -> list[bytes]:
        sections = self.encoder.deltas(rooms)
        for decoder, data in zip(self.decoders, sections, strict=False):
            apply(decoder, data)
        return sections


def apply(decoder: codec.Decoder, data: bytes) -> None:
    for _, section in fields(data):
        parts = dict(fields(section))
        decoder.apply(parts[1], parts[3])


def same(one: codec.Decoder, other: codec.Decoder) -> bool:
    return all(
        np.array_equal(one.tables[name][column].view("u1"), other.tables[name][column].view("u1"))
        for name, columns in one.tables.items()
        for column in columns
    )


def test_keyframes_of_no_lanes_are_none(make: Make) -> None:
    world = World(make)
    world.publish()
    assert world.encoder.keyframes([]) == []


FIXTURE_OK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHANGES = st.tuples(
    st.sampled_from(
        [(Small, c.name) for c in Small.sent()] + [(Wide, c.name) for c in Wide.sent()]
    ),
    st.integers(0, ROOMS - 1),
    st.integers(0, 18),
    st.integers(0, 120) | st.floats(-20, 20),
)


@FIXTURE_OK
@given(ticks=st.lists(st.tuples(st.lists(CHANGES, max_size=12), st.integers(1, ROOMS)), max_size=8))
def test_deltas_add_up_to_a_keyframe(make: Make, ticks: list[tuple[list[object], int]]) -> None:
    world = World(make)
    for changes, rooms in [*ticks, ([], ROOMS)]:
        for (table, column), room, row, value in changes:  # type: ignore[attr-defined]
            world.set(table, column, room, row % (table.rows or 1), value)
        world.publish(rooms)
    for decoder, data in zip(world.decoders, world.encoder.keyframes(range(ROOMS)), strict=True):
        fresh = codec.Decoder(world.schema)
        apply(fresh, data)
        assert same(fresh, decoder)


def test_values_arrive_as_they_were_set(make: Make) -> None:
    world = World(make)
    world.set(Small, "b", 2, 1, 5.0)
    world.set(Small, "d", 2, 0, 1)
    world.set(Wide, "c", 2, 18, -123456)
    world.set(Wide, "f", 2, 0, 1.5)
    world.publish()
    small, wide = world.decoders[2].values("small"), world.decoders[2].values("wide")
    assert small["b"][1] == pytest.approx(5.0, abs=20 / 65535)
    assert small["d"].tolist() == [1, 0, 0]
    assert wide["c"][18] == -123456
    assert wide["f"][0] == 1.5


def test_nothing_changed_sends_nothing(make: Make) -> None:
    world = World(make)
    world.set(Wide, "h", 0, 0, 1)
    assert world.publish()[0] != b""
    assert world.publish() == [b""] * ROOMS


def test_hidden_columns_are_never_sent(make: Make) -> None:
    world = World(make)
    world.publish()
    world.set(Small, "secret", 1, 0, 7)
    assert world.publish()[1] == b""


@pytest.mark.parametrize(
    ("value", "number"),
    [(np.nan, 0), (-np.inf, 0), (np.inf, 65535), (-11.0, 0), (11.0, 65535)],
    ids=["nan", "-inf", "inf", "below", "above"],
)
def test_quantizing_clamps_what_does_not_fit(make: Make, value: float, number: int) -> None:
    world = World(make)
    world.set(Small, "b", 0, 0, value)
    with np.errstate(all="raise"):
        world.publish()
    assert world.decoders[0].tables["small"]["b"][0] == number


def test_nan_in_a_float_is_sent_once(make: Make) -> None:
    world = World(make)
    world.set(Wide, "f", 0, 0, np.nan)
    assert world.publish()[0] != b""
    assert world.publish()[0] == b""
    assert np.isnan(world.decoders[0].tables["wide"]["f"][0])


def test_long_sections_have_long_lengths(make: Make) -> None:
    class Big(Table, rows=9000):
        a = u32()

    arena = Arena([Layout(Big, 9000)], 1)
    spec = TableSpec(0, "big", 9000, (Big.a.spec(),))
    encoder = make([(spec, arena.runs[Big])], 1)
    arena.bind(Big, 0).a = np.arange(9000)
    decoder = codec.Decoder(Schema((spec,)))
    apply(decoder, encoder.deltas(1)[0])
    assert decoder.tables["big"]["a"].tolist() == list(range(9000))


def test_forgotten_room_starts_from_zero(make: Make) -> None:
    world = World(make)
    first = world.publish()[1]
    world.set(Small, "a", 1, 0, 9)
    world.publish()
    world.arena.clear_room(1)
    world.encoder.forget(slice(1, 2))
    assert world.publish()[1] == first


def test_schema_text_is_canonical() -> None:
    column = schema.ColumnSpec("x", schema.Kind.Q16, 0.0, 12.5)
    table = TableSpec(1, "t", 2, (column,), Visibility.OWNER)
    text = Schema((table,), (schema.ColumnSpec("go", schema.Kind.U8),)).text()
    assert text == "table 1 t 2 4\ncolumn x 9 0 12.5\ninput go 1 0 0\n"
