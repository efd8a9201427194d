"""A stream that is cut anywhere and joined again: nothing is shown wrongly, lost or done twice."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.client import seat
from rallypoint.games.columns import Input, Table, u16, u32
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.room import Rooms, Seat
from rallypoint.room_state import schema_proto
from rallypoint.v1 import room_pb2

SLOT = 1


class Marks(Table):
    taken = u32()
    newest = u16()


class Mark(Input, idle="repeat"):
    number = u16()


class Tally(ColumnGame):
    """Counts the inputs of each seat, and tells of each tick."""

    info: ClassVar = GameInfo(name="tally", max_players=2)
    tables = (Marks,)
    input = Mark

    def on_tick(self, rooms: Rooms) -> None:
        marks = rooms.table(Marks)
        marks.taken += rooms.taken.astype(np.uint32)
        marks.newest = rooms.input(Mark).number
        for room in range(len(rooms)):
            rooms.emit(room, 1, int(rooms.tick[room]).to_bytes(4, "little"))


TALLY = define(Tally)


class World:
    """A room, a client, and what is on the way between them."""

    def __init__(self) -> None:
        self.table = RoomTable(TALLY, capacity=1)
        self.slot = self.table.open(
            RoomSpec(id="room", seats=[Seat(n, f"p{n}", "P", n) for n in range(2)], epoch=1)
        )
        self.client = seat.Seat("room", b"token")
        self.events: list[int] = []
        self.joined = self.fresh = False
        self.sent = 0

    def join(self) -> None:
        """A new stream of the same seat."""
        self.table.join(self.slot, SLOT)
        welcome = room_pb2.Welcome(room_id="room", slot=SLOT, stream_token=b"s", epoch=1)
        welcome.schema.CopyFrom(schema_proto.of(TALLY.schema))
        welcome.input_seq = self.table.applied_seq(self.slot, SLOT)
        self.client.receive(room_pb2.JoinResponse(welcome=welcome).SerializeToString())
        self.joined = self.fresh = True

    def tick(self, cut: int) -> None:
        """One tick; its frame arrives, or a part of it, and the stream is over."""
        self.table.step()
        delta = self.table.deltas()[self.slot]
        (key,) = self.table.writer.keyframes([self.slot])
        if not self.joined:
            return
        body, self.fresh = (key if self.fresh else delta), False
        frame = room_pb2.Frame.FromString(body)
        message = room_pb2.JoinResponse(frame=frame).SerializeToString()
        if cut:
            self.joined = False  # what was cut is no whole message, and not handed on
            return
        happened = self.client.receive(message)
        assert isinstance(happened, seat.Stepped)
        self.events += [int.from_bytes(event.body, "little") for event in happened.events]
        self.check()

    def press(self, *, arrives: bool, again: bool) -> None:
        """An input with all unacknowledged ones: on its way, lost, or there twice."""
        self.sent += 1
        assert self.client.schema is not None
        self.client.push_input(self.sent.to_bytes(2, "little"))
        data = self.client.input_request()
        request = room_pb2.SendInputRequest.FromString(data or b"")
        for _ in range(arrives + again):
            self.table.offer(self.slot, SLOT, request.first_seq, list(request.inputs))

    def check(self) -> None:
        """What is shown is what is."""
        marks = self.table.room(self.slot).table(Marks)
        shown = self.client.tables["marks"]
        assert shown["taken"].tolist() == marks.taken.tolist()
        assert shown["newest"].tolist() == marks.newest.tolist()
        applied = self.table.applied_seq(self.slot, SLOT)
        assert self.client.ack == applied
        assert marks.taken[SLOT] <= applied


MOVES = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0, 0, 0, 0, 1]), st.just(0)),
    st.tuples(st.just("press"), st.integers(0, 1), st.integers(0, 1)),
    st.tuples(st.just("join"), st.just(0), st.just(0)),
)


@settings(max_examples=150)
@given(st.lists(MOVES, max_size=60))
def test_cuts_show_nothing_wrong_and_lose_and_repeat_nothing(
    moves: list[tuple[str, int, int]],
) -> None:
    world = World()
    world.join()
    world.tick(0)
    for move, one, other in moves:
        if move == "tick":
            world.tick(one)
        elif move == "press":
            world.press(arrives=bool(one), again=bool(other))
        elif not world.joined:
            world.join()
    if not world.joined:
        world.join()
    for _ in range(4):
        world.tick(0)
    first = world.events[0]
    assert world.events == list(range(first, first + len(world.events)))
    assert world.events[-1] == world.table.tick
    world.press(arrives=True, again=True)  # with all that was not acknowledged, 8 at most
    for _ in range(4):
        world.tick(0)
    assert world.client.ack == world.sent
    assert world.client.tables["marks"]["newest"][SLOT] == world.sent
