"""A room node and a gateway's side of Attach for the tests of rooms: real NATS, real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import codec
from rallypoint.games.definition import Definition
from rallypoint.internal.v1 import allocation_pb2, events_pb2, room_host_pb2, room_host_pb2_grpc
from rallypoint.kit import rpc, subjects, trunk
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import NodeId, RoomId
from rallypoint.kit.runtime import Runtime, RuntimeSettings
from rallypoint.room_state import catalog, config, serve
from rallypoint.v1 import room_pb2

host = room_host_pb2


@dataclass
class RunningNode:
    """A room node that serves."""

    runtime: Runtime
    bus: Bus
    address: str
    stub: room_host_pb2_grpc.RoomHostServiceAsyncStub

    async def own(self, room_id: str, epoch: int = 1) -> int:
        """Claim a room for this node as fleet does; the revision."""
        record = events_pb2.OwnRecord(node_id="node", epoch=epoch)
        kv = self.bus.kv(subjects.OWNERS.name)
        return await kv.put(subjects.own(RoomId(room_id)), record.SerializeToString())

    async def create(
        self,
        room_id: str,
        *,
        game: str = "skirmish",
        players: int = 2,
        options: Mapping[str, Any] | None = None,
        queue: str = "",
        epoch: int = 1,
        own_revision: int = 0,
        recording: allocation_pb2.Recording | None = None,
    ) -> list[allocation_pb2.SeatGrant]:
        """Make a room; its seats."""
        request = host.CreateRoomRequest(
            room_id=room_id,
            epoch=epoch,
            game=game,
            queue=queue,
            set="local",
            own_revision=own_revision,
            recording=recording,
            options=json.dumps(dict(options or {})).encode(),
            players=[
                allocation_pb2.SeatRequest(player_id=f"p{slot}", display_name=f"P{slot}")
                for slot in range(players)
            ],
        )
        return list((await self.stub.CreateRoom(request)).seats)


@asynccontextmanager
async def room_node(
    brokers: Brokers,
    *,
    node_id: str = "local-1",
    set_name: str = "local",
    games: Mapping[str, Definition] | None = None,
    incarnation: str = "",
    **changes: Any,
) -> AsyncIterator[RunningNode]:
    """Run a room node until the block ends. `games` are added to the installed ones, `changes` are
    other settings."""
    nonce = incarnation or f"{node_id}-a"
    base = RuntimeSettings(instance=node_id, incarnation=nonce, grpc_port=0, drain_s=3.0)
    settings = config.Settings(runtime=base, node_id=node_id, set=set_name, **changes)
    definitions = {**catalog.load(), **(games or {})}
    async with asyncio.TaskGroup() as tasks:
        runtime = Runtime("room-state", base, tasks)
        runtime.bus = await Bus.connect(brokers.nats.url, name=node_id)
        runtime.spawn(runtime.bus.supervise(), name="bus.supervise")
        await runtime.bus.ensure_topology()
        main = tasks.create_task(serve.run(settings, runtime, definitions), name=node_id)
        try:
            await until(lambda: runtime.health.is_ready() is True or main.done())
            address = await _address(runtime.bus, node_id)
            async with rpc.channel(address, name="test") as channel:
                stub: Any = room_host_pb2_grpc.RoomHostServiceStub(channel)
                yield RunningNode(runtime, runtime.bus, address, stub)
        finally:
            runtime.stopping.set()
            await main
            runtime.cancel_spawned()
            await runtime.bus.close()


async def _address(bus: Bus, node_id: str) -> str:
    entry = await bus.kv(subjects.NODES.name).get(subjects.node(NodeId(node_id)))
    assert entry is not None
    assert entry.value is not None
    return events_pb2.NodeRecord.FromString(entry.value).address


@dataclass
class Player:
    """What one client stream has received."""

    client: int
    joined: host.ClientJoined | None = None
    decoder: codec.Decoder | None = None
    frames: list[room_pb2.Frame] = field(default_factory=list)
    events: dict[int, room_pb2.Event] = field(default_factory=dict)
    kicked: str = ""
    control: room_pb2.Control | None = None
    on_frame: Callable[[room_pb2.Frame], None] = lambda _: None

    @property
    def welcome(self) -> room_pb2.Welcome:
        """The answer to its join."""
        assert self.joined is not None
        return self.joined.welcome

    @property
    def seat(self) -> host.SeatRef:
        """What its stream token holds."""
        assert self.joined is not None
        return host.SeatRef(
            room_id=self.welcome.room_id,
            slot=self.welcome.slot,
            generation=self.joined.generation,
        )

    def value(self, table: str, column: str) -> Any:
        """A column as decoded so far."""
        assert self.decoder is not None
        return self.decoder.values(table)[column]

    def frame(self, data: bytes) -> None:
        """Take a frame, checking that it follows on what is held."""
        frame = room_pb2.Frame.FromString(data)
        assert self.decoder is not None
        if frame.base_tick == 0:
            self.decoder.clear()
        else:
            assert self.frames
            assert frame.base_tick == self.frames[-1].tick
        for section in frame.sections:
            self.decoder.apply(section.table, section.data)
        for event in frame.events:
            self.events[event.id] = event
        self.frames.append(frame)
        self.on_frame(frame)


class AttachPeer:
    """A gateway's end of Attach: sends requests, sorts responses by client."""

    def __init__(self, node: RunningNode, definition: Definition) -> None:
        self._definition = definition
        self._call = node.stub.Attach()
        self._clients = 0
        self._calls = 0
        self._host = node.address.rpartition(":")[0]
        self.offer: host.TrunkOffer | None = None
        self._begun = False
        self.trunk: trunk.Trunk | None = None
        """Where requests go, once there is one."""
        self.players: dict[int, Player] = {}
        self.replies: dict[int, host.MessageReply] = {}
        self.sought: list[str] = []
        """Rooms that the node has us look for."""
        self.late_us: list[int] = []
        """Of each response with frames."""

    async def send(self, **fields: Any) -> None:
        """Send one request."""
        request = host.AttachRequest(**fields)
        if self.trunk is None:
            await self._call.write(request)
        else:
            self.trunk.send(request.SerializeToString())

    async def offered(self) -> host.TrunkOffer:
        """Ask for a trunk; the answer."""
        await self.send(trunk_wanted=True)
        await until(lambda: self.offer is not None)
        assert self.offer is not None
        return self.offer

    async def go_over(self) -> trunk.Trunk:
        """Go on over a trunk."""
        offer = await self.offered()
        opened = await trunk.connect(self._host, offer.port, offer.token)
        await until(lambda: self._begun)
        await self.send(trunk_begins=True)
        self.trunk = opened
        opened.start(received=self._take_bytes, writable=lambda: None)
        return opened

    async def join(self, room_id: str, player_id: str, *tokens: bytes, **fields: Any) -> Player:
        """Join and wait for the answer."""
        self._clients += 1
        player = self.players[self._clients] = Player(self._clients)
        player.decoder = codec.Decoder(self._definition.schema)
        join = host.ClientJoin(
            client=player.client, room_id=room_id, player_id=player_id, seat_tokens=tokens, **fields
        )
        await self.send(joins=[join])
        await until(lambda: player.joined is not None)
        return player

    async def message(self, player: Player, kind: int, body: bytes, request_id: int) -> Any:
        """Send a command and wait for the answer."""
        self._calls += 1
        call = self._calls
        message = host.ClientMessage(
            seat=player.seat, call=call, request_id=request_id, type=kind, body=body
        )
        await self.send(messages=[message])
        await until(lambda: call in self.replies)
        return self.replies[call]

    async def inputs(self, player: Player, first_seq: int, *inputs: Mapping[str, float]) -> None:
        """Send inputs."""
        packed = [codec.pack_input(self._definition.schema.input, item) for item in inputs]
        item = host.ClientInput(seat=player.seat, first_seq=first_seq, inputs=packed)
        await self.send(inputs=[item])

    async def read(self) -> None:
        """Take responses until the stream ends."""
        async for response in self._call:
            self._take(response)

    def cancel(self) -> None:
        """Break the stream."""
        self.break_call()
        if self.trunk is not None:
            self.trunk.abort()

    def break_call(self) -> None:
        """Break gRPC's part of the stream."""
        self._call.cancel()

    async def wait_ended(self) -> grpc.StatusCode:
        """Return how gRPC's part ended, once it has."""
        await until(self._call.done)
        return await self._call.code()

    def _take_bytes(self, data: bytes) -> None:
        self._take(host.AttachResponse.FromString(data))

    def _take(self, response: host.AttachResponse) -> None:
        for joined in response.joined:
            self.players[joined.client].joined = joined
        if response.frames:
            self.late_us.append(response.late_us)
        for frame in response.frames:
            for route in frame.routes:
                data = b"".join(frame.parts[index] for index in route.parts)
                for client in route.clients:
                    self.players[client].frame(data)
        for reply in response.replies:
            self.replies[reply.call] = reply
        for control in response.controls:
            if control.control.kind == room_pb2.CONTROL_KIND_MOVED and not control.clients:
                self.sought.append(control.room_id)
            for client in control.clients:
                self.players[client].control = control.control
        for kick in response.kicks:
            self.players[kick.client].kicked = kick.reason
        if response.HasField("trunk"):
            self.offer = response.trunk
        self._begun |= response.trunk_begins


@asynccontextmanager
async def attached(node: RunningNode, definition: Definition) -> AsyncIterator[AttachPeer]:
    """A gateway attached to a node."""
    peer = AttachPeer(node, definition)
    await peer.send(gateway_id="gateway-test")
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(peer.read(), name="attach.read")
        try:
            yield peer
        finally:
            peer.cancel()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


def with_info(definition: Definition, **changes: Any) -> Definition:
    """The same game with other times."""
    return replace(definition, info=replace(definition.info, **changes))
