"""A fleet in this process on real brokers, with small room nodes that speak real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from tests.support import waiting

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet import serve
from rallypoint.fleet.config import Settings
from rallypoint.internal.v1 import (
    allocation_pb2,
    allocation_pb2_grpc,
    events_pb2,
    room_host_pb2,
    room_host_pb2_grpc,
)
from rallypoint.kit import errors, rpc, runtime, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.health import Health
from rallypoint.kit.names import NodeId, RoomId
from rallypoint.kit.store import Store

CAP_S = 30.0

until = functools.partial(waiting.until, within_s=CAP_S, every_s=0.02)


class Peer(room_host_pb2_grpc.RoomHostServiceServicer):
    """A room node: rooms by id with their epochs; it can be slow, full or gone."""

    def __init__(self, bus: Bus, node_id: str, set_name: str, capacity: int) -> None:
        self.health = Health("peer")
        self.node_id, self.set_name, self.capacity = node_id, set_name, capacity
        self.incarnation = secrets.token_hex(4)
        self.rooms: dict[str, int] = {}
        self.requests: list[room_host_pb2.CreateRoomRequest] = []
        self.closed: list[str] = []
        self.die_on_create = False
        self.frozen = False
        self.refusal: errors.RallypointError | None = None
        self.restores: list[room_host_pb2.RestoreRoomRequest] = []
        self.restore_refusal: errors.RallypointError | None = None
        self.create_after = asyncio.Event()
        self.create_after.set()
        self.port = 0
        self._bus = bus
        self._server: grpc.aio.Server | None = None
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, register and beat."""
        self._server = rpc.make_server(self)
        room_host_pb2_grpc.add_RoomHostServiceServicer_to_server(self, self._server)
        self.port = rpc.listen(self._server, "127.0.0.1", self.port)
        await self._server.start()
        self._beating = asyncio.create_task(self._beat(), name=f"beat.{self.node_id}")
        await self._register()

    async def _register(self) -> None:
        record = events_pb2.NodeRecord(
            node_id=self.node_id,
            incarnation=self.incarnation,
            address=f"127.0.0.1:{self.port}",
            set=self.set_name,
            games=["skirmish"],
            capacity=self.capacity,
        )
        key = subjects.node(NodeId(self.node_id))
        await self._bus.kv("nodes").put(key, record.SerializeToString(), ttl_s=15)

    async def _beat(self) -> None:
        for count in itertools.count(1):
            if self.frozen:
                await asyncio.sleep(0.2)
                continue
            if count % 5 == 0 and self._bus.is_connected:
                with contextlib.suppress(errors.Unavailable):
                    await self._register()
            beat = events_pb2.Heartbeat(node_id=self.node_id, incarnation=self.incarnation)
            if self._bus.is_connected:
                subject = subjects.heartbeat(NodeId(self.node_id))
                with contextlib.suppress(errors.Unavailable):
                    await self._bus.publish(subject, beat.SerializeToString())
            await asyncio.sleep(0.2)

    async def kill(self) -> None:
        """Be gone at once, without a word."""
        if self._beating is not None:
            self._beating.cancel()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def restart(self) -> None:
        """Come back under the same name with an empty memory."""
        await self.kill()
        self.incarnation, self.port = secrets.token_hex(4), 0
        self.rooms.clear()
        await self.start()

    async def CreateRoom(self, request: Any, context: Any) -> room_host_pb2.CreateRoomResponse:
        self.requests.append(request)
        if self.die_on_create:
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, self.kill())
            await asyncio.sleep(CAP_S)
        await self.create_after.wait()
        if self.refusal is not None:
            raise self.refusal
        if self.rooms.get(request.room_id, 0) > request.epoch:
            raise errors.Aborted("EPOCH_STALE")
        self.rooms[request.room_id] = request.epoch
        return room_host_pb2.CreateRoomResponse(
            seats=[
                allocation_pb2.SeatGrant(
                    player_id=player.player_id, slot=slot, seat_token=secrets.token_bytes(16)
                )
                for slot, player in enumerate(request.players)
            ]
        )

    async def RestoreRoom(self, request: Any, context: Any) -> room_host_pb2.RestoreRoomResponse:
        self.restores.append(request)
        if self.restore_refusal is not None:
            raise self.restore_refusal
        self.rooms[request.room_id] = request.epoch
        return room_host_pb2.RestoreRoomResponse()

    async def CloseRoom(self, request: Any, context: Any) -> room_host_pb2.CloseRoomResponse:
        if request.max_epoch and self.rooms.get(request.room_id, 0) > request.max_epoch:
            return room_host_pb2.CloseRoomResponse()
        self.rooms.pop(request.room_id, None)
        self.closed.append(request.room_id)
        return room_host_pb2.CloseRoomResponse()

    async def Ping(self, request: Any, context: Any) -> room_host_pb2.PingResponse:
        if self.frozen:
            raise errors.Unavailable("FROZEN")
        return room_host_pb2.PingResponse(incarnation=self.incarnation)


class Stack:
    """What a test holds: the brokers' clients, the nodes and a client of fleet."""

    def __init__(self, bus: Bus, store: Store, set_name: str) -> None:
        self.bus, self.store, self.set_name = bus, store, set_name
        self.peers: list[Peer] = []
        self.fleet_client: Any = None
        self.address = ""
        self.runtime: runtime.Runtime | None = None

    async def node(self, *, capacity: int = 4) -> Peer:
        """Start a node and wait until fleet knows it."""
        node_id = f"{self.set_name[-20:]}-{len(self.peers) + 1}"
        peer = Peer(self.bus, node_id, self.set_name, capacity)
        self.peers.append(peer)
        await peer.start()
        await self.until_known(peer)
        return peer

    async def until_known(self, peer: Peer) -> None:
        """Wait until fleet has the peer's present process."""
        async with asyncio.timeout(CAP_S):
            # Fleet tells nobody what it learns, so we ask.
            while (peer.node_id, peer.incarnation) not in await self.nodes():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def nodes(self) -> dict[tuple[str, str], int]:
        """Return the slots claimed, by node and incarnation, of this test's set."""
        async with rpc.calling():
            reply = await self.fleet_client.ListNodes(allocation_pb2.ListNodesRequest())
        prefix = self.set_name[-20:] + "-"
        return {
            (node.node_id, node.incarnation): node.claimed
            for node in reply.nodes
            if node.node_id.startswith(prefix)
        }

    async def claimed(self, peer: Peer) -> int:
        """Return the slots claimed on a peer."""
        return (await self.nodes()).get((peer.node_id, peer.incarnation), 0)

    async def allocate(
        self, room_id: str, *, game: str = "skirmish", **fields: Any
    ) -> allocation_pb2.AllocateResponse:
        """Ask for a room for two."""
        request = allocation_pb2.AllocateRequest(
            request_id=room_id,
            set=self.set_name,
            game=game,
            players=[allocation_pb2.SeatRequest(player_id=name) for name in ("a", "b")],
            **fields,
        )
        async with rpc.calling():
            reply: allocation_pb2.AllocateResponse = await self.fleet_client.Allocate(request)
        return reply

    async def release(self, room_id: str) -> None:
        """Give a room back."""
        async with rpc.calling():
            await self.fleet_client.Release(
                allocation_pb2.ReleaseRequest(set=self.set_name, room_id=room_id)
            )

    async def own(self, room_id: str) -> events_pb2.OwnRecord | None:
        """Return a room's owner."""
        entry = await self.bus.kv("rooms").get(subjects.own(RoomId(room_id)))
        return None if entry is None else events_pb2.OwnRecord.FromString(entry.value or b"")


@asynccontextmanager
async def fleet_stack(brokers: Brokers, set_name: str, **settings: Any) -> AsyncIterator[Stack]:
    """Run a fleet until the block ends."""
    bus = await Bus.connect(brokers.nats.url, name="fleet-test")
    await bus.ensure_topology()
    store = await Store.connect(brokers.redis.url)
    stack = Stack(bus, store, set_name)
    try:
        async with running_fleet(stack, **settings):
            yield stack
    finally:
        for peer in stack.peers:
            await peer.kill()
        await bus.close()
        await store.close()


@asynccontextmanager
async def running_fleet(stack: Stack, **settings: Any) -> AsyncIterator[None]:
    """Run one fleet process's worth of tasks; the stack's client talks to it."""
    quick: dict[str, Any] = {
        "ping_period_s": 0.2,
        "silence_s": 3.2,
        "sweep_period_s": 0.1,
        "scan_period_s": 0.5,
        "unknown_node_s": 1.0,
        "create_timeout_s": 1.0,
    }
    base = runtime.completed("fleet", runtime.RuntimeSettings(grpc_port=0, drain_s=0.5))
    async with asyncio.TaskGroup() as tasks:
        host = stack.runtime = runtime.Runtime("fleet", base, tasks)
        host.bus, host.store = stack.bus, stack.store
        host.spawn(stack.bus.supervise(), name="bus.supervise")
        config = Settings(runtime=base, **(quick | settings))
        served = tasks.create_task(serve.serve(config, host), name="fleet")
        try:
            async with asyncio.timeout(CAP_S):
                while not host.health.is_ready():
                    await host.health.wait_changed()
            address = stack.address = f"127.0.0.1:{host.health.statistics()['grpc_port']}"
            async with rpc.channel(address, name="test") as channel:
                stack.fleet_client = allocation_pb2_grpc.AllocationServiceStub(channel)
                yield
        finally:
            host.stopping.set()
            await served
            host.cancel_spawned()
