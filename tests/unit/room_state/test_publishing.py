"""Every gateway gets every room's frame each tick, whether or not anything changed in between."""

import dataclasses
import random
import time

from rallypoint.games import codec
from rallypoint.games.columns import Table, u16
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo, RoomGame
from rallypoint.games.room import Seat
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity, Stream
from rallypoint.room_state.publishing import Publisher, RoomsBySlot
from rallypoint.v1 import room_pb2

SEATS = 3


class Pile(Table, rows=1):
    top = u16()


class Open(RoomGame):
    info = GameInfo(name="open", max_players=SEATS)
    tables = (Pile,)

    def on_tick(self, dt_s: float) -> None:
        self.room.table(Pile).top += 1 + len(self.room.id)


class Nobody:
    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        return

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        return


class Link(GatewayLink):
    """A gateway that reads at once, unless it is `slow`."""

    def __init__(self) -> None:
        super().__init__("g", limit_bytes=10_000)
        self.slow = False
        self.clients: dict[int, codec.Decoder] = {}
        self.ticks: dict[int, int] = {}

    def frames(self, data: bytes) -> bool:
        for sent in host.AttachResponse.FromString(data).frames if not self.slow else ():
            for route in sent.routes:
                whole = b"".join(sent.parts[index] for index in route.parts)
                for client in route.clients:
                    self._apply(client, sent, room_pb2.Frame.FromString(whole))
        return not self.slow

    def _apply(self, client: int, sent: host.RoomFrame, frame: room_pb2.Frame) -> None:
        decoder = self.clients[client]
        assert sent.tick == frame.tick
        if frame.base_tick == 0:
            decoder.clear()
        else:
            assert frame.base_tick == self.ticks[client]
        self.ticks[client] = frame.tick
        for section in frame.sections:
            decoder.apply(section.table, section.data)


class Played:
    """A table of rooms with gateways; `check` says whether all see what is."""

    def __init__(self) -> None:
        self.table = RoomTable(define(Open), capacity=8)
        self.rooms = RoomsBySlot()
        self.links = [Link(), Link()]
        self.refused = 0
        self.publisher = Publisher(self.table, self.rooms, refused=self._refuse)
        self._clients = 0

    def _refuse(self) -> None:
        self.refused += 1

    def open(self, name: str, *, ahead: int = 0) -> HostedRoom:
        seats = [Seat(slot, f"p{slot}", "P") for slot in range(SEATS)]
        spec = RoomSpec(id=name, seats=seats)
        slot = self.table.open(spec)
        if ahead:
            saved = self.table.snapshot(slot)
            self.table.release(slot)
            slot = self.table.restore(spec, dataclasses.replace(saved, tick=saved.tick + ahead))
        identity = RoomIdentity(
            room_id=name, epoch=1, game="open", queue="", set="", own_revision=0
        )
        book = SeatBook(seats, reserve_until=9.0, grace_s=9.0, new_token=lambda: b"")
        room = HostedRoom(
            identity, slot=slot, state=self.table.room(slot), book=book,
            post=lambda command: command(), observer=Nobody(),
        )  # fmt: skip
        self.rooms[slot] = room
        return room

    def close(self, room: HostedRoom) -> None:
        for slot in list(room.streams):
            room.unseat(slot)
        del self.rooms[room.slot]
        self.table.release(room.slot)

    def watch(self, room: HostedRoom, slot: int, link: Link) -> None:
        self._clients += 1
        link.clients[self._clients] = codec.Decoder(self.table.definition.schema)
        room.seat(Stream(link, self._clients, slot, self._clients))

    def publish(self) -> None:
        self.table.step()
        self.publisher.publish(time.perf_counter())

    def check(self) -> None:
        for room in self.rooms.values():
            top = int(room.state.table(Pile).top[0])
            for stream in room.streams.values():
                link = stream.link
                assert isinstance(link, Link)
                if not link.slow:
                    assert link.clients[stream.client].tables["pile"]["top"].tolist() == [top]
                    assert link.ticks[stream.client] == self.table.tick_of(room.slot)


def test_rooms_in_step_get_every_frame() -> None:
    played = Played()
    for number in range(3):
        room = played.open("r" * (number + 1), ahead=number * 40)
        played.watch(room, 0, played.links[0])
        played.watch(room, 1, played.links[number % 2])
    for _ in range(6):
        played.publish()
        played.check()
    assert all(played.publisher.frame_bytes[slot] > 0 for slot in played.rooms)


def test_slow_gateway_gets_keyframes_when_it_reads_again() -> None:
    played = Played()
    room = played.open("r")
    for slot, link in enumerate(played.links):
        played.watch(room, slot, link)
    played.publish()
    played.publish()
    played.links[1].slow = True
    for _ in range(3):
        played.publish()
        played.check()
    assert played.refused == 3
    played.links[1].slow = False
    played.publish()
    played.check()


def test_whatever_happens_between_ticks_all_see_what_is() -> None:
    for seed in range(15):
        rng, played = random.Random(seed), Played()
        for _ in range(120):
            room = rng.choice([None, *played.rooms.values()])
            match rng.randrange(12):
                case 0 if len(played.rooms) < 6:
                    played.open("r" * rng.randint(1, 5), ahead=rng.choice([0, 0, 9]))
                case 1 | 2 if room is not None:
                    played.watch(room, rng.randrange(SEATS), rng.choice(played.links))
                case 3 if room is not None:
                    room.unseat(rng.randrange(SEATS))
                case 4 if room is not None and room.streams:
                    room.refresh(rng.choice(list(room.streams.values())))
                case 5 if room is not None and rng.random() < 0.3:
                    played.close(room)
                case 6:
                    rng.choice(played.links).slow ^= True
                case _:
                    if played.rooms:
                        played.publish()
                        played.check()
