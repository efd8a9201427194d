"""A small room node for the gateway's tests: a real gRPC server that speaks Attach by the book.

One table (`seats`), one frame per `tick()`; it keeps what the gateway said, so that tests can ask.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from tests.integration.gateway_stack import Player, Running, Watched

from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.internal.v1 import room_host_pb2_grpc
from rallypoint.internal.v1.events_pb2 import OwnRecord
from rallypoint.kit import names, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.trunk import Trunk
from rallypoint.kit.trunk_listener import TrunkListener
from rallypoint.v1 import room_pb2

TOKEN = b"seat-token-of-slot-0"
OTHER = b"seat-token-of-slot-1"
SCHEMA = room_pb2.Schema(
    tables=[
        room_pb2.Table(
            id=0,
            name="seats",
            rows=2,
            visibility=room_pb2.VISIBILITY_SHARED,
            columns=[
                room_pb2.Column(name="ack", kind=room_pb2.COLUMN_KIND_U16),
                room_pb2.Column(name="state", kind=room_pb2.COLUMN_KIND_U8),
            ],
        )
    ],
    hash=77,
)


@dataclass
class Held:
    """A client stream as the node sees it."""

    attach: Attach
    client: int
    slot: int
    in_step: bool = False


@dataclass
class PeerRoom:
    """A room of the node."""

    room_id: str
    epoch: int = 1
    tick: int = 0
    tokens: dict[bytes, int] = field(default_factory=dict)
    """Slot by seat token."""
    generations: dict[int, int] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    """By slot."""
    inputs: list[host.ClientInput] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """Slots given up for good."""


class Attach:
    """One gateway's stream."""

    def __init__(self, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self.outbox: asyncio.Queue[host.AttachResponse | None] = asyncio.Queue()
        self.trunk: Trunk | None = None
        """Where responses go, once there is one."""

    def send(self, **fields: Any) -> None:
        """Send one response."""
        response = host.AttachResponse(**fields)
        if self.trunk is None:
            self.outbox.put_nowait(response)
        else:
            self.trunk.send(response.SerializeToString())

    def go_over(self, trunk: Trunk) -> None:
        """Send the rest over a trunk; the stream ends with it."""
        self.send(trunk_begins=True)
        self.trunk = trunk
        trunk.when_lost(lambda: self.outbox.put_nowait(None))


class Peer(room_host_pb2_grpc.RoomHostServiceServicer):
    """The node; it offers trunks as long as it knows their port."""

    def __init__(self) -> None:
        self.trunks = TrunkListener()
        self.trunk_port = 0
        """0: none is offered."""
        self.rooms: dict[str, PeerRoom] = {}
        self.attaches: list[Attach] = []
        self.resyncs = 0
        self.refused: list[str] = []
        """Rooms that were asked for and are not here."""
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listen; a port of before brings the node back where it was."""
        self.trunk_port = await self.trunks.listen("127.0.0.1", 0)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        room_host_pb2_grpc.add_RoomHostServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def __aenter__(self) -> Peer:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Go away without a word."""
        self.trunks.close()
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
        self.attaches.clear()

    async def own(self, bus: Bus, room: PeerRoom) -> None:
        """Write the room's ownership record."""
        self.rooms[room.room_id] = room
        record = OwnRecord(
            node_id="local-1",
            incarnation="one",
            epoch=room.epoch,
            set="local",
            address=f"127.0.0.1:{self.port}",
        )
        key = subjects.own(names.RoomId(room.room_id))
        await bus.kv(subjects.OWNERS.name).put(key, record.SerializeToString())

    def tick(self, room: PeerRoom, *, data: bytes = b"\0") -> None:
        """Send one frame to everybody: deltas to those in step, a keyframe to the rest."""
        base, room.tick = room.tick, room.tick + 1
        for attach in {id(held.attach): held.attach for held in room.held.values()}.values():
            here = [held for held in room.held.values() if held.attach is attach]
            parts = [
                room_pb2.Frame(epoch=room.epoch, tick=room.tick).SerializeToString(),
                room_pb2.Frame(base_tick=base).SerializeToString(),
                room_pb2.Frame(
                    sections=[room_pb2.Section(visibility=1, data=data)]
                ).SerializeToString(),
            ]
            stepping = [held.client for held in here if held.in_step]
            waiting = [held.client for held in here if not held.in_step]
            routes = [
                host.Route(clients=stepping, parts=[0, 1, 2]),
                host.Route(clients=waiting, parts=[0, 2]),
            ]
            frame = host.RoomFrame(
                room_id=room.room_id,
                epoch=room.epoch,
                tick=room.tick,
                parts=parts,
                routes=[route for route in routes if route.clients],
            )
            for held in here:
                held.in_step = True
            attach.send(frames=[frame])

    def close_room(self, room: PeerRoom, reason: str) -> None:
        """Say CLOSED to everybody."""
        for held in room.held.values():
            said = room_pb2.Control(kind=room_pb2.CONTROL_KIND_CLOSED, reason=reason)
            control = host.RoomControl(room_id=room.room_id, clients=[held.client], control=said)
            held.attach.send(controls=[control])
        room.held.clear()

    def tell_moved(self, attach: Attach, room_id: str, *clients: int) -> None:
        """Say that a room is not here any more, to some clients or to the gateway alone."""
        said = room_pb2.Control(kind=room_pb2.CONTROL_KIND_MOVED)
        attach.send(controls=[host.RoomControl(room_id=room_id, clients=clients, control=said)])

    # --- RoomHostService ---

    async def Attach(  # gRPC's name
        self, requests: AsyncIterator[host.AttachRequest], context: Any
    ) -> AsyncIterator[host.AttachResponse]:
        """Serve one gateway."""
        attach = Attach("")
        self.attaches.append(attach)
        reader = asyncio.create_task(self._read(attach, requests), name="peer-read")
        try:
            while (response := await attach.outbox.get()) is not None:
                yield response
        finally:
            reader.cancel()
            if attach.trunk is not None:
                attach.trunk.abort()

    async def _read(self, attach: Attach, requests: AsyncIterator[host.AttachRequest]) -> None:
        try:
            async for request in requests:
                attach.gateway_id = request.gateway_id or attach.gateway_id
                self._take(attach, request)
        finally:
            attach.outbox.put_nowait(None)

    def _trunk(self, attach: Attach, request: host.AttachRequest) -> None:
        if request.trunk_wanted and self.trunk_port:
            offer = self.trunks.offer(attach.go_over)
            attach.send(trunk=host.TrunkOffer(port=self.trunk_port, token=offer.token))
        if request.trunk_begins and attach.trunk is not None:
            attach.trunk.start(
                received=lambda data: self._take(attach, host.AttachRequest.FromString(data)),
                writable=lambda: None,
            )

    def _take(self, attach: Attach, request: host.AttachRequest) -> None:
        self._trunk(attach, request)
        for join in request.joins:
            attach.send(joined=[self._join(attach, join)])
        for item in request.inputs:
            room = self.rooms.get(item.seat.room_id)
            if room is None:
                self.tell_moved(attach, item.seat.room_id)
            elif item.seat.generation == room.generations.get(item.seat.slot):
                room.inputs.append(item)
        for message in request.messages:
            known = message.seat.room_id in self.rooms
            attach.send(replies=[_reply(message) if known else _unknown(message)])
        for number in request.resyncs:
            self.resyncs += 1
            for held in self._held(attach, number):
                held.in_step = False
        for leave in request.leaves:
            self._leave(attach, leave)

    def _join(self, attach: Attach, join: host.ClientJoin) -> host.ClientJoined:
        room = self.rooms.get(join.room_id)
        if room is None:
            self.refused.append(join.room_id)
            return host.ClientJoined(client=join.client, code=5, reason="ROOM_UNKNOWN")
        if join.generation:
            slot, generation = join.slot, join.generation
        else:
            slots = [room.tokens[token] for token in join.seat_tokens if token in room.tokens]
            if not slots:
                return host.ClientJoined(client=join.client, code=7, reason="SEAT_REFUSED")
            slot = slots[0]
            generation = room.generations.get(slot, 0) + 1
        if old := room.held.get(slot):
            kick = host.ClientKick(client=old.client, reason="STREAM_REPLACED")
            if not join.generation:
                old.attach.send(kicks=[kick])
        room.generations[slot] = generation
        room.held[slot] = Held(attach, join.client, slot)
        welcome = room_pb2.Welcome(
            room_id=room.room_id, slot=slot, epoch=room.epoch, schema=SCHEMA, tick_hz=20
        )
        return host.ClientJoined(client=join.client, welcome=welcome, generation=generation)

    def _leave(self, attach: Attach, leave: host.ClientLeave) -> None:
        if leave.for_good:
            room = self.rooms[leave.seat.room_id]
            room.left.append(leave.seat.slot)
            held = room.held.pop(leave.seat.slot, None)
            if held is not None:
                held.attach.send(kicks=[host.ClientKick(client=held.client, reason="LEFT")])
            return
        for room in self.rooms.values():
            for held in list(room.held.values()):
                if held.attach is attach and held.client == leave.client:
                    del room.held[held.slot]

    def _held(self, attach: Attach, client: int) -> list[Held]:
        return [
            held
            for room in self.rooms.values()
            for held in room.held.values()
            if held.attach is attach and held.client == client
        ]


def _reply(message: host.ClientMessage) -> host.MessageReply:
    if message.type == 9:
        return host.MessageReply(call=message.call, code=3, reason="MOVE_ILLEGAL")
    return host.MessageReply(call=message.call, body=b"echo " + message.body)


def _unknown(message: host.ClientMessage) -> host.MessageReply:
    return host.MessageReply(call=message.call, code=5, reason="ROOM_UNKNOWN")


async def a_room(peer: Peer, running: Running, room_id: str, *, epoch: int = 1) -> PeerRoom:
    """A room of the node, with two seats."""
    room = PeerRoom(room_id, epoch=epoch, tokens={TOKEN: 0, OTHER: 1})
    await peer.own(running.runtime.bus, room)
    return room


@asynccontextmanager
async def seated(
    peer: Peer, running: Running, room_id: str
) -> AsyncIterator[tuple[PeerRoom, Player, Watched]]:
    """A room of the node, a guest, and the stream of the first seat, which is the guest's."""
    room = await a_room(peer, running, room_id)
    player = await Player(running.url, secrets.token_bytes(16)).open()
    try:
        yield room, player, await player.join(room_id, TOKEN)
    finally:
        await player.channel.close()


async def ticked(peer: Peer, room: PeerRoom, watched: Watched) -> None:
    """Tick until a frame of the present tick arrives."""
    before = len(watched.frames())
    async with asyncio.timeout(30):
        while len(watched.frames()) == before:
            peer.tick(room)
            await asyncio.sleep(0.05)
