"""A matchmaking process under test, a fleet peer that can fail, and players.

The fleet peer is a real gRPC AllocationService: idempotent by request_id as fleet promises, with
fresh seat tokens for each answer, and with faults that a test turns on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from rallypoint.cli import ports
from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc
from rallypoint.kit import rpc
from rallypoint.v1 import matchmaking_pb2 as v1
from rallypoint.v1 import matchmaking_pb2_grpc
from tests.support import waiting

WITHIN_S = 30.0

until = functools.partial(waiting.until, within_s=WITHIN_S, every_s=0.05)


def document(queue: str, **changes: Any) -> dict[str, Any]:
    """A queue of pairs that accept anybody."""
    return {"queue": queue, "game": "tictactoe", "tolerance": [[0, 5000]], **changes}


class FleetPeer(allocation_pb2_grpc.AllocationServiceServicer):
    """Fleet as matchmaking sees it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.rooms: dict[str, allocation_pb2.AllocateRequest] = {}
        self.failures = 0
        """Calls still to be refused with RESOURCE_EXHAUSTED."""
        self.lose_replies = 0
        """Calls still to make the room and then fail."""
        self.hold = asyncio.Event()
        """Calls wait while it is clear."""
        self.hold.set()
        self.epoch = 1

    async def Allocate(
        self, request: allocation_pb2.AllocateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> allocation_pb2.AllocateResponse:
        self.asked[request.request_id] += 1
        await self.hold.wait()
        if self.failures > 0:
            self.failures -= 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "FLEET_FULL")
        self.rooms.setdefault(request.request_id, request)
        if self.lose_replies > 0:
            self.lose_replies -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "reply lost")
        seats = [
            allocation_pb2.SeatGrant(
                player_id=player.player_id, slot=slot, seat_token=secrets.token_bytes(16)
            )
            for slot, player in enumerate(request.players)
        ]
        return allocation_pb2.AllocateResponse(
            room_id=request.request_id, node_id="local-1", epoch=self.epoch, seats=seats
        )


@contextlib.asynccontextmanager
async def fleet_peer() -> AsyncIterator[tuple[FleetPeer, str]]:
    """A running peer and its address."""
    peer = FleetPeer()
    server = grpc.aio.server(options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000)])
    allocation_pb2_grpc.add_AllocationServiceServicer_to_server(peer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield peer, f"127.0.0.1:{port}"
    finally:
        peer.hold.set()
        await server.stop(None)


@dataclass(slots=True)
class Process:
    """A service's process; `start` again after `kill` keeps name, ports and settings."""

    service: str
    environ: dict[str, str]
    grpc_port: int
    metrics_port: int
    log: Path
    child: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        await self.wait_ready()

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "rallypoint", self.service],
                env=self.environ,
                stdout=output,
                stderr=output,
            )

    async def wait_ready(self) -> None:
        """Return once /readyz says so."""
        async with asyncio.timeout(WITHIN_S):
            while not await asyncio.to_thread(self._ready):
                assert self.child is not None
                assert self.child.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz") as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        """What /statusz says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/statusz") as reply:
            shown: dict[str, Any] = json.load(reply)
            return shown

    async def wait_leading(self, queue: str) -> None:
        """Return once it leads a queue."""
        await until(lambda: self._leads(queue))

    async def _leads(self, queue: str) -> bool:
        status = await asyncio.to_thread(self.status)
        return bool(status["queues"][queue]["leading"])

    def kill(self) -> None:
        """End it without warning."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it in its tracks (SIGSTOP) meanwhile."""
        assert self.child is not None
        self.child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if self.child is not None:
                self.child.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self.child is not None
        self.child.terminate()
        code = self.child.wait(WITHIN_S)
        self.child = None
        return code


def service(name: str, brokers: Brokers, directory: Path, **settings: str) -> Process:
    """A service's process that is not started yet."""
    grpc_port, metrics_port = ports.free_one(), ports.free_one()
    settings = {
        "instance": f"{name}-1",
        "nats_url": brokers.nats.url,
        "redis_url": brokers.redis.url,
        "grpc_port": str(grpc_port),
        "metrics_port": str(metrics_port),
        "drain_s": "2",
        **settings,
    }
    environ = {f"RALLYPOINT_{key.upper()}": value for key, value in settings.items()}
    log = directory / f"{settings['instance']}.log"
    return Process(name, {**os.environ, **environ}, grpc_port, metrics_port, log)


def process(
    brokers: Brokers,
    directory: Path,
    fleet_address: str,
    *,
    queues: list[dict[str, Any]],
    **settings: str,
) -> Process:
    """A matchmaking process that is not started yet."""
    names = [queue["queue"] for queue in queues]
    files = directory / "-".join(["queues", *names])
    files.mkdir(exist_ok=True)
    for queue in queues:
        (files / f"{queue['queue']}.json").write_text(json.dumps(queue))
    return service(
        "matchmaking",
        brokers,
        directory,
        fleet_address=fleet_address,
        queues=",".join(names),
        queue_files=str(files),
        **settings,
    )


@dataclass(slots=True)
class Player:
    """Somebody who calls as the gateway would on their behalf."""

    name: str
    queue: str
    stub: Any
    tickets: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Who calls."""
        return ((rpc.PLAYER_ID, self.name), (rpc.DISPLAY_NAME, self.name.title().encode()))

    async def call(self, method: str, request: Any) -> Any:
        """One unary call."""
        async with rpc.calling():
            return await getattr(self.stub, method)(request, metadata=self.metadata, timeout=10)

    async def create(self, request_id: str = "r1", **fields: Any) -> v1.Ticket:
        """Enter the queue."""
        request = v1.CreateTicketRequest(request_id=request_id, queue=self.queue, **fields)
        ticket: v1.Ticket = (await self.call("CreateTicket", request)).ticket
        self.tickets.append(ticket.ticket_id)
        return ticket

    async def get(self, ticket_id: str = "") -> v1.Ticket:
        """Read a ticket."""
        request = v1.GetTicketRequest(ticket_id=ticket_id, queue=self.queue)
        ticket: v1.Ticket = (await self.call("GetTicket", request)).ticket
        return ticket

    async def cancel(self, ticket_id: str) -> v1.Ticket:
        """Leave the queue."""
        request = v1.CancelTicketRequest(ticket_id=ticket_id, queue=self.queue)
        ticket: v1.Ticket = (await self.call("CancelTicket", request)).ticket
        return ticket

    async def rating(self) -> v1.Rating:
        """Read the rating."""
        rating: v1.Rating = (
            await self.call("GetRating", v1.GetRatingRequest(queue=self.queue))
        ).rating
        return rating

    async def watch(
        self, ticket_id: str, after_seq: int = 0, *, begun: asyncio.Event | None = None
    ) -> list[v1.WatchTicketResponse]:
        """All events until the stream ends; sets `begun` at the first."""
        request = v1.WatchTicketRequest(ticket_id=ticket_id, queue=self.queue, after_seq=after_seq)
        async with rpc.calling(), asyncio.timeout(WITHIN_S):
            stream = self.stub.WatchTicket(request, metadata=self.metadata)
            events = []
            async for response in stream:
                events.append(response)
                if begun is not None:
                    begun.set()
            return events

    async def wait_state(self, state: int, ticket_id: str = "") -> v1.Ticket:
        """The ticket once it has come to a state."""

        async def there() -> bool:
            return (await self.get(ticket_id)).state == state

        await until(there)
        return await self.get(ticket_id)


@contextlib.asynccontextmanager
async def players(process_: Process, queue: str, *names: str) -> AsyncIterator[tuple[Player, ...]]:
    """Players of a queue, on one channel."""
    async with rpc.channel(f"127.0.0.1:{process_.grpc_port}", name="test") as channel:
        stub = matchmaking_pb2_grpc.MatchmakingServiceStub(channel)
        yield tuple(Player(name, queue, stub) for name in names)


@contextlib.asynccontextmanager
async def started(
    brokers: Brokers, directory: Path, queue: dict[str, Any], **settings: str
) -> AsyncIterator[tuple[Process, FleetPeer]]:
    """One leading process with one queue, and its fleet peer."""
    async with fleet_peer() as (peer, address):
        one = process(brokers, directory, address, queues=[queue], **settings)
        try:
            await one.start()
            await one.wait_leading(queue["queue"])
            yield one, peer
        finally:
            one.kill()
