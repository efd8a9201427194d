"""Frames made one: for any schema, any changes and whoever is passed over when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games import codec, columns
from rallypoint.games.columns import Cells, Table
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.room import Seat
from rallypoint.games.schema import Visibility
from rallypoint.games.views import Watch
from rallypoint.gateway.domain import frames
from rallypoint.gateway.domain.merging import Merger, Unmergeable
from rallypoint.room_state import schema_proto
from rallypoint.v1 import room_pb2

SEATS = 3
KINDS = [
    columns.u8, columns.u16, columns.u32, columns.i8, columns.i16, columns.i32, columns.f32,
    lambda: columns.q8(-1, 1), lambda: columns.q16(0, 700), columns.flag,
]  # fmt: skip
COLUMNS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=11)
TABLES = st.one_of(
    st.tuples(st.just("shared"), COLUMNS, st.integers(1, 20)),
    st.tuples(st.just("owner"), COLUMNS, st.none()),
    st.tuples(st.just("team"), COLUMNS, st.none()),
)
SCHEMAS = st.tuples(st.lists(TABLES, min_size=1, max_size=3), st.booleans())
VISIBILITIES = {
    "shared": Visibility.SHARED,
    "owner": Visibility.OWNER,
    "team": Visibility.TEAM,
}
CHANGES = st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 4), max_size=8)
ROUNDS = st.lists(
    st.tuples(CHANGES, st.sets(st.integers(0, SEATS - 1)), st.sets(st.integers(0, SEATS - 1))),
    min_size=1,
    max_size=10,
)


class Near(Table, cells=Cells(radius=100, x="x", y="y", alive="alive")):
    x = columns.q16(0, 350)
    y = columns.q16(0, 350)
    alive = columns.flag()
    code = columns.u32()


def game_of(schema: tuple[list[Any], bool]) -> Definition:
    """A game that declares these tables; the flag adds one that is seen from nearby."""
    tables: list[type[Table]] = []
    for number, (kind, makers, rows) in enumerate(schema[0]):
        declared = {f"c{place}": make() for place, make in enumerate(makers)}
        for name, column in declared.items():
            column.__set_name__(None, name)
        made = type(f"T{number}", (Table,), declared, rows=rows, visibility=VISIBILITIES[kind])
        tables.append(made)
    info = GameInfo(name="any", max_players=SEATS, max_kbps=0)
    everything = (*tables, *([Near] if schema[1] else []))
    return define(type("Any", (ColumnGame,), {"info": info, "tables": everything}))


class Client:
    """One seat's: what it holds, and the frame that waits for it."""

    def __init__(self, definition: Definition, merger: Merger) -> None:
        self.decoder = codec.Decoder(definition.schema)
        self.tick = 0
        self.waiting = b""
        self._merger = merger

    def offer(self, body: bytes, *, passed_over: bool) -> None:
        message = frames.as_message(body)
        if frames.is_keyframe(body) or not self.waiting:
            self.waiting = message
        else:
            self.waiting = self._merger.merge(self.waiting, message)
        if not passed_over:
            self.take(room_pb2.JoinResponse.FromString(self.waiting).frame)
            self.waiting = b""

    def take(self, frame: room_pb2.Frame) -> None:
        assert frame.base_tick in (0, self.tick)
        if not frame.base_tick:
            self.decoder.clear()
        for section in frame.sections:
            self.decoder.apply(section.table, section.data)
        self.tick = frame.tick


class World:
    """A room, a client of each seat that gets every frame, and one that is passed over at times."""

    def __init__(self, definition: Definition) -> None:
        schema = schema_proto.of(definition.schema).SerializeToString()
        merger = Merger(schema)
        self.table = RoomTable(definition, capacity=1)
        seats = [Seat(slot, f"p{slot}", "P", slot % 2) for slot in range(SEATS)]
        self.slot = self.table.open(RoomSpec(id="room", seats=seats))
        self.tables = definition.game.tables
        self.begun = False
        self.exact = [Client(definition, merger) for _ in range(SEATS)]
        self.slow = [Client(definition, merger) for _ in range(SEATS)]

    def change(self, changes: list[tuple[int, int, int, int]]) -> None:
        for which, name, row, value in changes:
            bound = self.table.room(self.slot).table(self.tables[which % len(self.tables)])
            array = list(bound.arrays.values())[name % len(bound.arrays)]
            array[row % len(array)] = (
                value % 800 if array.dtype == np.float64 else _bits(array, value)
            )

    def publish(self, over: set[int], lost: set[int]) -> None:
        """Seats that lost something get a keyframe; those in `over` get it, or the delta, later."""
        self.table.step()
        writer = self.table.writer
        delta, key = self.table.deltas()[self.slot], writer.keyframes([self.slot])[0]
        fresh = frozenset(lost if self.begun else range(SEATS))
        self.begun = True
        view = writer.views([Watch(self.slot, tuple(range(SEATS)), fresh)])[0]
        for seat in range(SEATS):
            own = b"".join(view.parts[at] for at in view.of[seat])
            body = (key if seat in fresh else delta) + own
            self.exact[seat].offer(body, passed_over=False)
            self.slow[seat].offer(body, passed_over=seat in over)


def _bits(array: Any, value: int) -> Any:
    return np.frombuffer(value.to_bytes(8, "little"), array.dtype, 1)[0]


def held(client: Client) -> list[bytes]:
    tables = client.decoder.tables.values()
    return [numbers.tobytes() for table in tables for numbers in table.values()]


@settings(max_examples=100)
@given(SCHEMAS, ROUNDS)
def test_who_is_passed_over_holds_the_same_as_who_is_not(schema: Any, rounds: Any) -> None:
    world = World(game_of(schema))
    for changes, over, lost in rounds:
        world.change(changes)
        world.publish(over, lost)
        for exact, slow in zip(world.exact, world.slow, strict=True):
            if not slow.waiting:
                assert held(slow) == held(exact)


def _frame(tick: int, base: int, data: bytes = b"", *events: int, epoch: int = 1) -> bytes:
    sections = [room_pb2.Section(table=0, visibility=1, data=data)] if data else []
    happened = [room_pb2.Event(id=number) for number in events]
    frame = room_pb2.Frame(
        epoch=epoch, tick=tick, base_tick=base, sections=sections, events=happened
    )
    return frames.as_message(frame.SerializeToString())


def _merger() -> Merger:
    column = room_pb2.Column(name="a", kind=room_pb2.COLUMN_KIND_U8)
    table = room_pb2.Table(id=0, rows=3, columns=[column], visibility=room_pb2.VISIBILITY_SHARED)
    return Merger(room_pb2.Schema(tables=[table]).SerializeToString())


def test_newer_values_win_and_events_stay_in_order() -> None:
    older, newer = _frame(8, 7, b"\x01\x03\x0a\x0b", 1, 2), _frame(9, 8, b"\x01\x06\x15\x16", 3)
    assert _merger().merge(older, newer) == _frame(9, 7, b"\x01\x07\x0a\x15\x16", 1, 2, 3)


def test_keyframe_and_what_follows_it_are_a_keyframe() -> None:
    merged = _merger().merge(_frame(8, 0, b"\x01\x01\x0a"), _frame(9, 8, b"\x01\x01\x00"))
    assert merged == _frame(9, 0, b"\x01\x01\x00")


def test_what_was_merged_for_one_is_there_for_all() -> None:
    merger, older, newer = _merger(), _frame(8, 7, b"\x01\x01\x0a"), _frame(9, 8)
    assert merger.merge(older, newer) is merger.merge(older, newer)


@pytest.mark.parametrize(
    "newer",
    [_frame(9, 7), _frame(9, 8, epoch=2), _frame(9, 8, b"\x01\x07\x01")],
    ids=["gap", "epoch", "short section"],
)
def test_frames_that_do_not_follow_are_not_merged(newer: bytes) -> None:
    with pytest.raises(Unmergeable):
        _merger().merge(_frame(8, 7, b"\x01\x01\x0a"), newer)
