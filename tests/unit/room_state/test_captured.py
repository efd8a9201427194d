"""A room as a stored message: what is read back is what was taken."""

from typing import Any

import pytest

from rallypoint.games import skirmish, tictactoe
from rallypoint.games.codec import pack_input
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import Game
from rallypoint.games.room import Seat
from rallypoint.internal.v1 import snapshot_pb2
from rallypoint.kit import errors
from rallypoint.room_state import captured
from rallypoint.room_state.domain.replies import Reply, ReplyLog
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity

SEATS = [Seat(0, "p0", "Ada", 1), Seat(1, "p1", "Bob", 2)]


def room_of(game: type[Game]) -> tuple[HostedRoom, RoomTable]:
    """A room with something in every field."""
    definition = define(game)
    table = RoomTable(definition, capacity=2)
    slot = table.open(RoomSpec(id="r", seats=SEATS, options={"time_limit_s": 9}, seed=5))
    book = SeatBook(SEATS, reserve_until=30.0, grace_s=5.0, new_token=lambda: b"t" * 16, saves=True)
    identity = RoomIdentity(
        room_id="r", epoch=3, game=definition.info.name, queue="q", set="s", own_revision=9,
        code="ABCD", created_s=5,
        options=b'{"time_limit_s": 9}', trace={"traceparent": "00-1"},
    )  # fmt: skip
    quiet: Any = None
    room = HostedRoom(
        identity,
        slot=slot,
        state=table.room(slot),
        book=book,
        post=lambda _: None,
        observer=quiet,
    )
    table.join(slot, 0)
    book.open("p0", [dict(book.grants())[SEATS[0]]])
    if definition.input:
        packed = pack_input(definition.schema.input, {"dx": 7, "fire": 1})
        table.offer(slot, 0, 1, [packed])
        table.step()
        table.offer(slot, 0, 2, [packed, packed])
    book.kick(1)
    room.state.locked, room.state.metadata = True, {"map": "ice"}
    room.state.emit(7, b"what happened")
    table.step()
    log = room.replies[1] = ReplyLog()
    log.keep(4, Reply(3, "NO", b"body"), mark=b"mark")
    return room, table


@pytest.mark.parametrize("game", [skirmish.Skirmish, tictactoe.TicTacToe])
def test_stored_room_reads_back_equal(game: type[Game]) -> None:
    room, table = room_of(game)
    item = captured.take(room, table, now=10.0, at=1_700_000_000.5)
    back = captured.from_bytes(captured.to_message(item).SerializeToString())
    assert back.engine == item.engine
    assert back.book == item.book
    assert back.replies == item.replies
    assert back.at == item.at
    assert (back.identity.own_revision, back.identity.epoch) == (0, 3)
    assert (back.identity.options, dict(back.identity.trace)) == (
        room.identity.options,
        {"traceparent": "00-1"},
    )
    other = RoomTable(table.definition, capacity=1)
    assert other.restore(back.spec(4), back.engine) == 0
    assert other.room(0).options == {"time_limit_s": 9}


def test_kept_head_is_used_while_it_fits() -> None:
    room, table = room_of(skirmish.Skirmish)
    first = captured.take(room, table, now=10.0, at=1.0)
    data, head = captured.to_bytes(first)
    assert captured.from_bytes(data) == captured.from_bytes(
        captured.to_message(first).SerializeToString()
    )
    table.step()
    later = captured.take(room, table, now=10.0, at=2.0)
    data, same = captured.to_bytes(later, head)
    assert same is head
    assert captured.from_bytes(data).engine == later.engine
    room.replies[1].keep(5, Reply(0, "", b"yes"), mark=b"other")
    room.book.drop(0, 10.0)
    changed = captured.take(room, table, now=10.0, at=3.0)
    data, other = captured.to_bytes(changed, head)
    back = captured.from_bytes(data)
    assert other is not head
    assert (back.book, back.replies, back.at) == (changed.book, changed.replies, 3.0)


def test_only_time_is_no_difference() -> None:
    room, table = room_of(tictactoe.TicTacToe)
    first = captured.take(room, table, now=10.0, at=1.0)
    table.step()
    assert not captured.take(room, table, now=11.0, at=2.0).differs(first)
    room.book.grants()
    assert captured.take(room, table, now=11.0, at=2.0).differs(first)


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    with pytest.raises(errors.FailedPrecondition, match="SNAPSHOT_MALFORMED"):
        captured.from_bytes(b"\xff\xff")
    seat = snapshot_pb2.SeatSnapshot(state=99)
    with pytest.raises(errors.FailedPrecondition, match="SNAPSHOT_MALFORMED"):
        captured.from_bytes(snapshot_pb2.RoomSnapshot(seats=[seat]).SerializeToString())
