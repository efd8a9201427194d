"""Which client gets which bytes: in step, fresh, seats' own parts, several gateways."""

import numpy as np

from rallypoint.games import codec
from rallypoint.games.columns import Table, u16
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo, RoomGame
from rallypoint.games.room import Seat
from rallypoint.games.schema import Visibility
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.room_state import attach
from rallypoint.room_state.domain import responses
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import HostedRoom, RoomBytes, RoomIdentity, Stream
from rallypoint.v1 import room_pb2


class Hand(Table, visibility=Visibility.OWNER):
    card = u16()


class Pile(Table, rows=1):
    top = u16()


class Cards(RoomGame):
    info = GameInfo(name="cards", max_players=3)
    tables = (Hand, Pile)

    def on_tick(self, dt_s: float) -> None:
        self.room.table(Pile).top += 1
        self.room.table(Hand).card += np.array([1, 10, 100], np.uint16)


class Open(RoomGame):
    info = GameInfo(name="open", max_players=3)
    tables = (Pile,)

    def on_tick(self, dt_s: float) -> None:
        self.room.table(Pile).top += 1


class Nobody:
    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        return

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        return


class Played:
    """A room of a game, published by hand."""

    def __init__(self, definition: Definition) -> None:
        self.table = RoomTable(definition, capacity=2)
        seats = [Seat(slot, f"p{slot}", "P") for slot in range(3)]
        self.table.open(RoomSpec(id="other", seats=seats))
        slot = self.table.open(RoomSpec(id="r", seats=seats))
        identity = RoomIdentity(
            room_id="r", epoch=4, game="cards", queue="", set="", own_revision=0
        )
        book = SeatBook(seats, reserve_until=9.0, grace_s=9.0, new_token=lambda: b"")
        self.room = HostedRoom(
            identity,
            slot=slot,
            state=self.table.room(slot),
            book=book,
            post=lambda command: command(),
            observer=Nobody(),
        )
        self.definition = definition
        self.clients: dict[int, codec.Decoder] = {}
        self.keys: dict[int, list[bool]] = {}

    def watch(self, link: GatewayLink, client: int, slot: int) -> Stream:
        stream = Stream(link, client, slot, 1)
        self.room.seat(stream)
        self.clients[client] = codec.Decoder(self.definition.schema)
        self.keys[client] = []
        return stream

    def publish(self) -> None:
        self.table.step()
        writer, slot = self.table.writer, self.room.slot
        fresh = self.room.fresh
        data = RoomBytes(
            self.table.deltas()[slot],
            writer.keyframes([slot])[0] if fresh else b"",
            writer.views([self.room.watch()])[0] if writer.has_views else None,
        )
        for _, frame in self.room.frames(responses.tick(self.table.tick), data):
            self._read(host.AttachResponse.FromString(attach.join_frames([frame])).frames[0])

    def _read(self, sent: host.RoomFrame) -> None:
        for route in sent.routes:
            data = b"".join(sent.parts[index] for index in route.parts)
            for client in route.clients:
                self._apply(client, room_pb2.Frame.FromString(data))

    def _apply(self, client: int, frame: room_pb2.Frame) -> None:
        decoder = self.clients[client]
        self.keys[client].append(frame.base_tick == 0)
        if frame.base_tick == 0:
            decoder.clear()
        for section in frame.sections:
            decoder.apply(section.table, section.data)

    def value(self, client: int, table: str, column: str) -> int:
        return int(self.clients[client].tables[table][column][0])


def link() -> GatewayLink:
    return GatewayLink("g", limit_bytes=1000)


def test_each_seat_sees_its_own_row_only() -> None:
    played = Played(define(Cards))
    one = link()
    played.watch(one, 11, 0)
    played.watch(one, 12, 2)
    played.publish()
    played.publish()
    played.watch(link(), 13, 1)
    played.publish()
    assert [played.value(client, "hand", "card") for client in (11, 12, 13)] == [3, 300, 30]
    assert [played.value(client, "pile", "top") for client in (11, 12, 13)] == [3, 3, 3]
    assert played.keys == {11: [True, False, False], 12: [True, False, False], 13: [True]}


def test_only_the_fresh_get_a_keyframe() -> None:
    played = Played(define(Open))
    one, two = link(), link()
    played.watch(one, 1, 0)
    played.publish()
    late = played.watch(one, 2, 1)
    played.watch(two, 3, 2)
    played.publish()
    played.publish()
    played.room.refresh(late)
    played.publish()
    assert played.keys[1] == [True, False, False, False]
    assert played.keys[2] == [True, False, True]
    assert played.keys[3] == [True, False, False]
    assert {played.value(client, "pile", "top") for client in (1, 2, 3)} == {4}


def test_who_left_gets_nothing_more() -> None:
    played = Played(define(Open))
    one = link()
    played.watch(one, 1, 0)
    played.watch(one, 2, 1)
    played.publish()
    played.room.unseat(0)
    played.publish()
    assert (len(played.keys[1]), len(played.keys[2])) == (1, 2)
    assert one.streams.keys() == {2}


def test_seat_taken_anew_drops_the_older_stream() -> None:
    played = Played(define(Open))
    one = link()
    older = played.watch(one, 1, 0)
    newer = Stream(one, 2, 0, 2)
    assert played.room.seat(newer) is older
    assert played.room.current(0, 2)
    assert not played.room.current(0, 1)
