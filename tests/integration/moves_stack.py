"""Room nodes, a fleet, a gateway and players on real brokers: what moves need, all in process.

The game counts: every input applied, and the sum of their numbers, so that an input lost or applied
twice shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.fleet_stack import CAP_S, Stack, running_fleet
from tests.integration.gateway_stack import gateway, settings
from tests.integration.rooms_stack import RunningNode, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.client import RoomConnection, Session, WebChannel
from rallypoint.client.seat import Stepped
from rallypoint.games import (
    ColumnGame,
    GameInfo,
    Input,
    Placement,
    Room,
    Rooms,
    Table,
    message,
    u16,
    u32,
)
from rallypoint.games.definition import Definition, define
from rallypoint.games.game import Drained
from rallypoint.internal.v1 import (
    allocation_pb2,
    events_pb2,
    fleet_admin_pb2,
    fleet_admin_pb2_grpc,
)
from rallypoint.kit import rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.kit.store import Store

COUNT = 1
admin = fleet_admin_pb2


class Tally(Table):
    """What was applied, per seat."""

    applied = u32()
    total = u32()
    counted = u32()


class Number(Input, idle="zero"):
    """One number."""

    value = u16()


class Counting(ColumnGame):
    """Counts inputs and messages; option `finish` ends the match when the node drains."""

    info = GameInfo(name="counting", max_players=2, tick_hz=20)
    tables = (Tally,)
    input = Number

    def on_tick(self, rooms: Rooms) -> None:
        tally = rooms.table(Tally)
        tally.applied += rooms.taken.astype("u4")
        tally.total += rooms.input(Number).value

    @message(COUNT)
    def count(self, room: Room, seat: int, body: bytes) -> bytes:
        counted = room.table(Tally).counted
        counted[seat] += 1
        return int(counted[seat]).to_bytes(4, "big")

    def on_drain(self, room: Room, within_s: float) -> Drained:
        if not room.options.get("finish"):
            return "migrate"
        room.after(room.options["finish"], "end")
        return "finish"

    def end(self, room: Room) -> None:
        room.finish([Placement(0, 1), Placement(1, 2)])


class More(Table):
    """What a later version of the game counts as well."""

    more = u32()


class OtherCounting(Counting):
    """The game with other columns."""

    tables = (Tally, More)


COUNTING = define(Counting)
OTHER_COUNTING = define(OtherCounting)


@dataclass
class Client:
    """A player who sends a number twenty times a second, and what came of it."""

    connection: RoomConnection = field(init=False)
    sent: int = 0
    ticks: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    _heard_at: float = 0.0

    def on_step(self, connection: RoomConnection, stepped: Stepped) -> None:
        """Note a frame."""
        now = asyncio.get_running_loop().time()
        self.ticks.append(stepped.tick)
        self.epochs.append(connection.seat.epoch)
        if self._heard_at:
            self.gaps_s.append(now - self._heard_at)
        self._heard_at = now

    async def play(self) -> None:
        """Send inputs until cancelled."""
        for value in itertools.count(1):
            self.connection.send_input({"value": value})
            self.sent = value
            await asyncio.sleep(0.05)

    def tally(self, column: str) -> int:
        """One's own count as it was last seen."""
        return int(self.connection.seat.values("tally")[column][self.connection.seat.slot])

    async def check(self) -> None:
        """Nothing was lost, nothing came twice, nobody had to join again."""
        await asyncio.sleep(0.2)
        self.sent = self.connection.send_input({"value": 0})  # carries what was not sent yet
        await until(lambda: self.connection.seat.ack == self.sent)
        await until(lambda: self.tally("applied") >= self.sent)
        assert self.tally("applied") == self.sent
        assert (self.connection.joins, self.connection.breaks) == (1, [])
        assert self.connection.input_errors == 0
        assert self.ticks == sorted(set(self.ticks)), "a tick came again"


@dataclass
class World:
    """What a test holds."""

    brokers: Brokers
    set_name: str
    bus: Bus
    fleet: Stack
    url: str
    nodes: dict[str, RunningNode] = field(default_factory=dict)
    admin: Any = None

    async def allocate(
        self,
        room_id: str,
        players: Sequence[str],
        *,
        recording: allocation_pb2.Recording | None = None,
        **options: Any,
    ) -> list[bytes]:
        """Have fleet make a room; the seat tokens."""
        import json

        request = allocation_pb2.AllocateRequest(
            request_id=room_id,
            set=self.set_name,
            game="counting",
            queue="counting",
            recording=recording,
            options=json.dumps(options).encode(),
            players=[allocation_pb2.SeatRequest(player_id=player) for player in players],
        )
        async with rpc.calling():
            reply = await self.fleet.fleet_client.Allocate(request)
        return [seat.seat_token for seat in reply.seats]

    async def own(self, room_id: str) -> events_pb2.OwnRecord:
        """The room's record."""
        entry = await self.bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
        assert entry is not None
        return events_pb2.OwnRecord.FromString(entry.value or b"")

    async def other(self, room_id: str) -> str:
        """A node that does not run the room."""
        owner = (await self.own(room_id)).node_id
        return next(node_id for node_id in self.nodes if node_id != owner)

    async def move(self, room_id: str, to: str = "") -> admin.MoveRoomResponse:
        """Move a room; raises what fleet says."""
        async with rpc.calling():
            request = admin.MoveRoomRequest(room_id=room_id, node_id=to)
            reply: admin.MoveRoomResponse = await self.admin.MoveRoom(request)
        return reply

    async def drain(self, node_id: str, *, within_ms: int = 0) -> None:
        """Have a node drain."""
        async with rpc.calling():
            request = admin.DrainNodeRequest(node_id=node_id, within_ms=within_ms)
            await self.admin.DrainNode(request)

    async def undrain(self, node_id: str) -> None:
        """Have a node take rooms again, and wait until fleet knows."""
        async with rpc.calling():
            await self.admin.UndrainNode(admin.UndrainNodeRequest(node_id=node_id))
        async with asyncio.timeout(CAP_S):
            while (await self.drain_state(node_id)).draining:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)

    async def drain_state(self, node_id: str) -> admin.GetDrainResponse:
        """How far a drain is."""
        async with rpc.calling():
            request = admin.GetDrainRequest(node_id=node_id)
            reply: admin.GetDrainResponse = await self.admin.GetDrain(request)
        return reply

    async def claimed(self) -> dict[str, int]:
        """Slots claimed, by node."""
        async with rpc.calling():
            reply = await self.fleet.fleet_client.ListNodes(allocation_pb2.ListNodesRequest())
        return {node.node_id: node.claimed for node in reply.nodes if node.node_id in self.nodes}

    @asynccontextmanager
    async def node(
        self, name: str, *, games: Mapping[str, Definition] | None = None, capacity: int = 256
    ) -> AsyncIterator[RunningNode]:
        """Run a room node until the block ends; known to fleet within it."""
        node_id = f"{self.set_name[-20:]}-{name}"
        async with room_node(
            self.brokers,
            node_id=node_id,
            set_name=self.set_name,
            games={"counting": COUNTING} if games is None else games,
            room_capacity=capacity,
        ) as running:
            self.nodes[node_id] = running
            await self.until_known(node_id)
            yield running

    async def until_known(self, node_id: str) -> None:
        """Wait until fleet has a node."""
        async with asyncio.timeout(CAP_S):
            while node_id not in await self.claimed():  # noqa: ASYNC110  # fleet tells nobody
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def match(self, room_id: str, **options: Any) -> AsyncIterator[tuple[Client, Client]]:
        """Two players in a room, playing."""
        sessions = [await Session.open(WebChannel(self.url), game="counting") for _ in range(2)]
        tokens = await self.allocate(room_id, [s.player_id for s in sessions], **options)
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for session, token in zip(sessions, tokens, strict=True):
                client = Client()
                client.connection = RoomConnection(session, room_id, token, on_step=client.on_step)
                await stack.enter_async_context(client.connection)
                clients.append(client)
            for client in clients:
                await client.connection.wait_joined()
            yield clients[0], clients[1]
        for session in sessions:
            await session.channel.close()


@asynccontextmanager
async def moving_world(brokers: Brokers, set_name: str, tmp_path: Path) -> AsyncIterator[World]:
    """A fleet and a gateway; nodes come with `World.node`."""
    bus = await Bus.connect(brokers.nats.url, name="moves-test")
    await bus.ensure_topology()
    store = await Store.connect(brokers.redis.url)
    fleet = Stack(bus, store, set_name)
    try:
        async with running_fleet(fleet), gateway(brokers, settings(tmp_path)) as edge:
            world = World(brokers, set_name, bus, fleet, edge.url)
            assert fleet.runtime is not None
            address = f"127.0.0.1:{fleet.runtime.health.statistics()['grpc_port']}"
            async with rpc.channel(address, name="test") as channel:
                world.admin = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
                yield world
    finally:
        await bus.close()
        await store.close()


@asynccontextmanager
async def playing(*clients: Client) -> AsyncIterator[None]:
    """Have players send inputs until the block ends."""
    tasks = [asyncio.create_task(client.play(), name="play") for client in clients]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
