"""One room node in the middle of a gateway, without sockets: what its frames do to streams."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rallypoint.gateway import attach, fanout
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_registry import Place, Registry
from rallypoint.gateway.rooms_stream import Room, Stream
from rallypoint.gateway.rooms_sweep import Sweep, SweepSettings
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2
from tests.support.backends import backends

Scenario = Callable[[Any], Coroutine[Any, Any, None]]


class Pipe:
    """A transport whose reader takes nothing unless told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unread = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


class Outlet:
    """A stream's sending end over a pipe."""

    def __init__(self, fan_out: fanout.FanOut) -> None:
        self.pipe = Pipe()
        self.closed = False
        self.error: errors.RallypointError | None = None
        self.slot = fan_out.add(self.pipe, grpcweb.native)
        self._fan_out = fan_out
        self._on_close: Callable[[], None] = lambda: None

    @property
    def unsent(self) -> int:
        return self.pipe.get_write_buffer_size()

    def send(self, message: bytes) -> fanout.Problem | None:
        self.pipe.write(message)
        return None

    def on_close(self, callback: Callable[[], None]) -> None:
        self._on_close = callback

    def end(self, error: errors.RallypointError | None = None) -> None:
        self.closed, self.error = True, error
        self._on_close()
        self._fan_out.remove(self.slot)

    def abandon(self, *, within_s: float) -> None:
        self.pipe.abort()

    async def wait_closed(self) -> None:
        return

    async def wait_writable(self) -> None:
        return

    def events(self) -> list[int]:
        """The ids of all events sent, in order."""
        parsed = [room_pb2.JoinResponse.FromString(data) for data in self.pipe.written]
        return [event.id for message in parsed for event in message.frame.events]

    def ticks(self) -> list[str]:
        """The frames that were sent, as `base>tick`."""
        return [kind for kind in self.kinds() if ">" in kind]

    def kinds(self) -> list[str]:
        """What was sent, in order."""
        parsed = [room_pb2.JoinResponse.FromString(data) for data in self.pipe.written]
        return [_kind(message) for message in parsed]


def _kind(message: room_pb2.JoinResponse) -> str:
    kind = message.WhichOneof("kind") or "empty"
    if kind == "frame":
        base = message.frame.base_tick
        return f"{base}>{message.frame.tick}"
    return kind if kind != "control" else message.control.reason


class World:
    """One node with a room, in the middle of a gateway."""

    def __init__(self, backend: str) -> None:
        self.loop_time = 100.0
        self.unix_time = 1_000.0
        self.places: dict[str, Place | None] = {}
        self.fan_out = fanout.make(backend, fanout.FanOutLimits(100, 10.0), clock=self.clock)
        self.board = Board(self.fan_out, lambda stream: b"token", self.clock)
        self.nodes: dict[str, Node] = {}
        self.registry = Registry(self.board, self.locate, self.open_node)
        self.room = Room("room", 1)
        self.node = self.open_node("node:1")
        self.node.take(self.room)
        self.sweep = Sweep(
            self.board,
            lambda: [self.room],
            session_end_s=lambda player_id: 0.0,
            now_s=lambda: self.unix_time,
            settings=SweepSettings(),
        )

    def clock(self) -> float:
        return self.loop_time

    async def locate(self, room_id: str) -> Place | None:
        return self.places.get(room_id)

    def open_node(self, address: str) -> Node:
        settings = attach.LinkSettings()
        return self.nodes.setdefault(
            address, Node(address, self.board, gateway_id="g", settings=settings)
        )

    def join(self, *, welcomed: bool = True) -> tuple[Stream, Outlet]:
        outlet = Outlet(self.fan_out)
        stream = Stream(
            client=next(self.board.clients),
            room=self.room,
            outlet=outlet,
            player_id="g1",
            seat_tokens=(b"t",),
            schema_hash=0,
            token_expires_s=2_000.0,
            joined=asyncio.get_running_loop().create_future(),
        )
        self.board.add(stream)
        self.node.join(stream)
        if welcomed:
            self.welcome(stream)
        return stream, outlet

    def welcome(self, stream: Stream, generation: int = 1, *, epoch: int = 0) -> None:
        welcome = room_pb2.Welcome(room_id="room", slot=0, epoch=epoch or self.room.epoch)
        joined = host.ClientJoined(client=stream.client, welcome=welcome, generation=generation)
        self.receive(host.AttachResponse(joined=[joined]))

    def frames(self, *frames: host.RoomFrame) -> None:
        self.receive(host.AttachResponse(frames=frames))

    def receive(self, response: host.AttachResponse) -> None:
        deque(self.node.received(response.SerializeToString()), maxlen=0)


def frame(
    tick: int, base: int, *streams: Stream, epoch: int = 1, events: Sequence[int] = ()
) -> host.RoomFrame:
    """A room's frame for these streams; `events` are the ids of what happened."""
    happened = [room_pb2.Event(id=number) for number in events]
    whole = room_pb2.Frame(epoch=epoch, tick=tick, base_tick=base, events=happened)
    part = whole.SerializeToString()
    route = host.Route(clients=[stream.client for stream in streams], parts=[0])
    return host.RoomFrame(room_id="room", epoch=epoch, tick=tick, parts=[part], routes=[route])


def run(scenario: Scenario, world: type[World] = World) -> None:
    async def inside(backend: str) -> None:
        await scenario(world(backend))

    for backend in backends():
        asyncio.run(inside(backend))
