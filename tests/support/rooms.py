"""A room with something in every field of its snapshot."""

from typing import Any

from rallypoint.games.codec import pack_input
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import Game
from rallypoint.games.room import Seat
from rallypoint.room_state.domain.replies import Reply, ReplyLog
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity

SEATS = [Seat(0, "p0", "Ada", 1), Seat(1, "p1", "Bob", 2)]


def room_of(game: type[Game]) -> tuple[HostedRoom, RoomTable]:
    """The room, and its table."""
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
