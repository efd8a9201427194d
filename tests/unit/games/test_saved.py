"""A room saved and restored elsewhere has the same future, bit for bit."""

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.games import plain, skirmish, tictactoe
from rallypoint.games.codec import pack_input
from rallypoint.games.columns import Table, u8
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import Game, GameInfo, Refused, RoomGame
from rallypoint.games.harness import RoomHarness
from rallypoint.games.room import Seat, SeatState
from rallypoint.games.saved import EVENT_GAP, SavedRoom
from rallypoint.kit import errors

SKIRMISH = define(skirmish.Skirmish)
TICTACTOE = define(tictactoe.TicTacToe)
SEATS = 2


def spec_of(number: int) -> RoomSpec:
    seats = [Seat(slot, f"p{slot}", f"P{slot}", slot) for slot in range(SEATS)]
    options = {"time_limit_s": 10, "turn_limit_s": 5}
    return RoomSpec(id=f"r{number}", seats=seats, options=options, seed=number)


def busy(definition: Definition, others: int, ticks: int) -> RoomTable:
    """A table in which other rooms have played for a while."""
    table = RoomTable(definition, capacity=4)
    for number in range(others):
        table.open(spec_of(100 + number))
        table.join(number, 0)
    for _ in range(ticks):
        table.step()
        if others:  # a runner does not ask an empty table for frames
            table.deltas()
    return table


def play(table: RoomTable, slot: int, turns: "list[tuple[int, ...]]") -> list[bytes]:
    """Frames of some ticks, with what players did in each."""
    frames = []
    kind = table.definition.schema.input
    for seat, seq, dx, aim, fire, cell in turns:
        if kind:
            values = {"dx": dx, "aim": aim, "fire": fire}
            packed = [pack_input(kind, values)] * (1 + cell % 5)
            table.offer(slot, seat, table.applied_seq(slot, seat) + seq, packed)
        else:
            with contextlib.suppress(Refused):
                table.answer(slot, seat, tictactoe.PLACE, bytes((cell,)))
        table.step()
        frames.append(table.deltas()[slot])
    return frames


turn = st.tuples(
    st.integers(0, 1),
    st.integers(1, 3),
    st.integers(-100, 100),
    st.integers(0, 65535),
    st.integers(0, 1),
    st.integers(0, 8),
)


@pytest.mark.parametrize("definition", [SKIRMISH, TICTACTOE], ids=["skirmish", "tictactoe"])
@given(
    before=st.lists(turn, max_size=25),
    after=st.lists(turn, min_size=1, max_size=25),
    here=st.tuples(st.integers(0, 2), st.integers(0, 9)),
    there=st.tuples(st.integers(0, 2), st.integers(0, 9)),
)
def test_restored_room_has_the_same_future(
    definition: Definition,
    before: Any,
    after: Any,
    here: tuple[int, int],
    there: tuple[int, int],
) -> None:
    table = busy(definition, *here)
    slot = table.open(spec_of(7))
    for seat in range(SEATS):
        table.join(slot, seat)
    play(table, slot, before)
    if table.take_ended():
        return
    saved = table.snapshot(slot)
    table.deltas()
    other = busy(definition, *there)
    moved = other.restore(spec_of(7), saved, event_gap=0)
    other.deltas()
    assert other.writer.keyframes([moved]) == table.writer.keyframes([slot])
    # The first delta builds on whatever the table sent before: nobody gets it.
    assert play(other, moved, after)[1:] == play(table, slot, after)[1:]
    assert other.take_ended() == [replace(end, slot=moved) for end in table.take_ended()]
    assert other.snapshot(moved) == table.snapshot(slot)


def saved_skirmish() -> SavedRoom:
    table = RoomTable(SKIRMISH, capacity=1)
    slot = table.open(spec_of(1))
    table.join(slot, 0)
    table.step()
    return table.snapshot(slot)


def test_snapshot_of_other_columns_is_refused() -> None:
    class Other(tictactoe.TicTacToe):
        tables = (tictactoe.Board,)

    with pytest.raises(errors.FailedPrecondition, match="SNAPSHOT_LAYOUT"):
        RoomTable(define(Other)).restore(spec_of(1), saved_skirmish())
    assert RoomTable(define(Other)).rooms == 0


def test_snapshot_that_does_not_fit_leaves_no_room() -> None:
    table = RoomTable(SKIRMISH, capacity=1)
    with pytest.raises(ValueError, match="fit"):
        table.restore(spec_of(1), replace(saved_skirmish(), columns=b"short"))
    assert table.rooms == 0
    assert table.restore(spec_of(1), saved_skirmish()) == 0


def test_events_of_a_recovered_room_are_new_to_clients() -> None:
    saved = saved_skirmish()
    table = RoomTable(SKIRMISH, capacity=1)
    slot = table.restore(spec_of(1), saved)
    table.join(slot, 1)
    assert table.snapshot(slot).next_event == saved.next_event + EVENT_GAP + 1


def test_old_room_is_closed_wherever_it_goes() -> None:
    class Short(RoomGame):
        info = GameInfo(name="short", max_players=1, tick_hz=10, max_age_s=0.5)

    table = RoomTable(define(Short), capacity=1)
    table.open(RoomSpec(id="r", seats=[Seat(0, "p", "P")]))
    for _ in range(4):
        table.step()
    other = RoomTable(define(Short), capacity=1)
    other.restore(RoomSpec(id="r", seats=[Seat(0, "p", "P")]), table.snapshot(0))
    other.step()
    assert other.take_ended() == []
    other.step()
    assert [end.reason for end in other.take_ended()] == ["ROOM_TOO_OLD"]


class Cards(Table):
    held = u8()


class Keeper(RoomGame):
    """Keeps things in attributes, and a timer."""

    info = GameInfo(name="keeper", max_players=2, tick_hz=10)
    tables = (Cards,)

    def on_create(self) -> None:
        self.seen: dict[int, set[str]] = {}
        self.deck = [(1, "a"), (2, "b")]
        self.noise = np.arange(3, dtype=np.float32)
        self.room.after(0.5, "deal")

    def on_join(self, seat: int) -> None:
        self.seen[seat] = {"hello", str(seat)}

    def deal(self) -> None:
        self.room.table(Cards).held = self.deck.pop()[0]


def test_attributes_and_timers_come_back() -> None:
    room = RoomHarness(Keeper, players=2)
    room.step(2)
    room.reload()
    assert room.seen("seats")["state"].tolist() == [SeatState.CONNECTED] * 2
    room.step(2)
    assert room.table(Cards).held.tolist() == [0, 0]
    room.reload()
    room.step(1)
    assert room.table(Cards).held.tolist() == [2, 2]
    assert room.seen("cards")["held"].tolist() == [2, 2]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=3)
        | st.sets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=3))
def test_plain_values_come_back_equal(kept: dict[str, Any]) -> None:
    assert plain.unpack(plain.pack(kept)) == kept


def test_arrays_come_back_with_their_type() -> None:
    packed = plain.pack({"grid": np.eye(2, dtype=np.int16), "one": np.float32(0.5)})
    back = plain.unpack(packed)
    assert back["grid"].dtype == np.int16
    assert back["grid"].tolist() == [[1, 0], [0, 1]]
    assert back["one"] == np.float32(0.5)


def test_what_is_not_plain_is_refused_by_name() -> None:
    with pytest.raises(plain.NotPlain, match="generator"):
        plain.pack({"walk": (step for step in ())})
    with pytest.raises(ValueError, match="no packed"):
        plain.unpack(b"[1]")


def test_game_types_are_covered() -> None:
    games: list[type[Game]] = [skirmish.Skirmish, tictactoe.TicTacToe]
    for game in games:
        room = RoomHarness(game, players=2)
        room.step(3)
        room.reload()
        room.step(3)
        assert room.error is None
