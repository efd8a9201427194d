"""A room as bytes: the same that the message of its values says, with and without C."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.rooms import room_of

from rallypoint.games import skirmish, swarm, tictactoe
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, Game
from rallypoint.games.room import Room, Seat
from rallypoint.room_state import captured, packed, packing
from rallypoint.room_state.domain.replies import Reply
from rallypoint.room_state.hosted import HostedRoom
from rallypoint.room_state.packed import Packed

needs_compiler = pytest.mark.skipif(not packing.COMPILED, reason="nothing in C here")


def taken(room: HostedRoom, table: RoomTable, *, now: float = 10.0, at: float = 1.0) -> Packed:
    (item,) = packed.take([room], table, packing.make(table), now=now, at=at)
    assert isinstance(item, Packed)
    return item


@pytest.mark.parametrize("game", [skirmish.Skirmish, tictactoe.TicTacToe])
def test_packed_room_reads_back_equal(game: type[Game]) -> None:
    room, table = room_of(game)
    item = taken(room, table, at=1_700_000_000.5)
    expected = captured.take(room, table, now=10.0, at=1_700_000_000.5)
    message = captured.to_message(expected).SerializeToString()
    assert captured.from_bytes(item.to_bytes()) == captured.from_bytes(message)
    assert packed.of(expected).to_bytes() == item.to_bytes()


def test_timers_are_packed_too() -> None:
    room, table = room_of(tictactoe.TicTacToe)
    room.state.after(3.0, "on_turn_over")
    table._commit(room.slot, room.state.effects)
    back = captured.from_bytes(taken(room, table).to_bytes())
    assert back.engine.timers == table.snapshot(room.slot).timers != ()


def test_kept_head_is_used_while_it_fits() -> None:
    room, table = room_of(skirmish.Skirmish)
    room.stored = first = taken(room, table)
    table.step()
    assert taken(room, table).head is first.head
    room.replies[1].keep(5, Reply(0, "", b"yes"), mark=b"other")
    room.book.drop(0, 10.0)
    changed = taken(room, table, at=3.0)
    assert changed.head is not first.head
    assert changed.differs(first)
    back = captured.from_bytes(changed.to_bytes())
    expected = captured.take(room, table, now=10.0, at=3.0)
    assert (back.book, back.replies, back.at) == (expected.book, expected.replies, 3.0)


def test_only_time_is_no_difference() -> None:
    room, table = room_of(tictactoe.TicTacToe)
    first = taken(room, table)
    table.step()
    assert not taken(room, table, now=11.0, at=2.0).differs(first)
    room.book.grants()
    assert taken(room, table, now=11.0, at=2.0).differs(first)


def test_room_that_cannot_be_saved_spares_the_others() -> None:
    class Moody(ColumnGame):
        info = tictactoe.TicTacToe.info
        tables = (tictactoe.Board,)

        def on_snapshot(self, room: Room) -> bytes:
            if room.id == "r1":
                raise RuntimeError("not now")
            if room.id == "r2":
                return "no bytes"  # type: ignore[return-value]  # what a game may do
            return room.id.encode()

    table = RoomTable(define(Moody), capacity=5)
    rooms = []
    for number in range(5):
        room, _ = room_of(tictactoe.TicTacToe)
        room.slot = table.open(RoomSpec(id=f"r{number}", seats=[]))
        rooms.append(room)
    wanting: Any = 1.5
    table.room(3).backfill = wanting
    items = list(packed.take(rooms, table, packing.make(table), now=1.0, at=1.0))
    assert [type(item) for item in items] == [Packed, RuntimeError, TypeError, TypeError, Packed]
    assert [room.copies for room in rooms] == [1, 0, 0, 0, 1]


@needs_compiler
@pytest.mark.parametrize("game", [skirmish.Skirmish, swarm.Swarm], ids=["skirmish", "swarm"])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_both_packers_do_the_same(game: type[Game], seed: int) -> None:
    rng, definition = random.Random(seed), define(game)
    table = RoomTable(definition, capacity=3)
    for number in range(3):
        seats = [Seat(slot, f"p{slot}", "", slot) for slot in range(2)]
        slot = table.open(RoomSpec(id=f"r{number}", seats=seats, seed=rng.getrandbits(64)))
        table.join(slot, 0)
    for _ in range(12):
        if rng.random() < 0.4:
            table.step()
        slot, seat = rng.randrange(3), rng.randrange(min(4, definition.seats))
        first = table.applied_seq(slot, seat) + rng.randrange(3)
        inputs = [rng.randbytes(table.rings.size) for _ in range(rng.randrange(5))]
        table.offer(slot, seat, first * rng.choice([1, 1, 200]), inputs)
        slots = rng.choices(range(3), k=rng.randrange(4))
        assert packing.make(table).pack(slots) == packing.PurePacker(table).pack(slots)


@needs_compiler
def test_slots_out_of_the_table_are_refused() -> None:
    table = RoomTable(define(skirmish.Skirmish), capacity=2)
    packer = packing.make(table)
    for slots in ([2], [-1]):
        with pytest.raises(IndexError):
            packer.pack(slots)
    with pytest.raises(TypeError):
        packer.pack((0,))  # type: ignore[arg-type]
