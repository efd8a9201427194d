"""The fan-out that writes to transports: on uvloop one `send` system call per message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway.domain import frames
from rallypoint.gateway.domain.grpcweb import Framing
from rallypoint.gateway.fanout import (
    Clock,
    FanOutLimits,
    FanOutStatistics,
    Passed,
    Problem,
    Sent,
    Transport,
)
from rallypoint.internal.v1.room_host_pb2 import AttachResponse, RoomFrame


@dataclass(slots=True)
class _Client:
    transport: Transport
    framing: Framing
    write: Callable[[bytes], None]
    pending: Callable[[], int]
    behind_since: float | None = None
    filled: int = 0
    """Messages in a row that found something unsent before them."""
    skipped: bytes = b""
    """The message that was not written to it, until somebody asks for it."""


class UvFanOut:
    """Implements `fanout.FanOut`."""

    name = "uv"

    def __init__(self, limits: FanOutLimits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._clients: list[_Client | None] = []
        self._free: list[int] = []
        self._cut_slots: set[int] = set()
        self._messages = self._bytes = self._behind = self._cut = 0

    def add(self, transport: Transport, framing: Framing) -> int:
        """Register a client."""
        client = _Client(transport, framing, transport.write, transport.get_write_buffer_size)
        if self._free:
            slot = self._free.pop()
            self._clients[slot] = client
            return slot
        self._clients.append(client)
        return len(self._clients) - 1

    def remove(self, slot: int) -> None:
        """Forget a client."""
        if 0 <= slot < len(self._clients):
            if self._clients[slot] is None and slot not in self._cut_slots:
                return
            self._cut_slots.discard(slot)
            self._clients[slot] = None
            self._free.append(slot)

    def push(self, slots: Sequence[int], bodies: Sequence[bytes]) -> list[tuple[int, Problem]]:
        """Write bodies[i] to slots[i]."""
        problems: list[tuple[int, Problem]] = []
        clients, limit = self._clients, self._limits.behind_bytes
        filling = self._limits.filling_after
        last: bytes | None = None
        framing: Framing | None = None
        data = b""
        written = size = 0
        for slot, body in zip(slots, bodies, strict=True):
            client = clients[slot]
            if client is None:
                problems.append((slot, Problem.GONE))
                continue
            pending = client.pending()
            if pending > limit:
                problems.append((slot, self._skip(slot, client, body)))
                continue
            if body is not last or client.framing is not framing:
                last, framing = body, client.framing
                data = framing(body)
            client.behind_since = None
            try:
                client.write(data)
            except RuntimeError:  # uvloop's, between a reset and `connection_lost`
                client.transport.abort()  # a part of it may be out: nothing may follow it
                problems.append((slot, Problem.GONE))
                continue
            written += 1
            size += len(data)
            if pending:
                client.filled += 1
                if client.filled >= filling:
                    problems.append((slot, Problem.FILLING))
            elif client.filled:
                client.filled = 0
        self._messages += written
        self._bytes += size
        return problems

    def touch(self, slot: int) -> None:
        """Nothing to note: transports keep what is written in order."""

    def unsent(self, slot: int) -> int:
        """Bytes that wait in the slot's transport."""
        transport = self.transport(slot)
        return 0 if transport is None else transport.get_write_buffer_size()

    def skipped(self, slot: int) -> bytes:
        """What a client that is behind did not get."""
        client = self._clients[slot]
        if client is None:
            return b""
        body, client.skipped = client.skipped, b""
        return body

    def routes(self) -> UvRoutes:
        """An empty table for one node."""
        return UvRoutes(self)

    def settle(self, events: list[tuple[int, Problem]]) -> list[tuple[int, Problem]]:
        """Pass them on."""
        return events

    def caught_up(self, slot: int) -> None:
        """The client took a message."""
        client = self._clients[slot]
        if client is not None:
            client.behind_since = None
            client.filled = 0

    def transport(self, slot: int) -> Transport | None:
        """The transport of a slot, None without a client."""
        client = self._clients[slot] if 0 <= slot < len(self._clients) else None
        return None if client is None else client.transport

    def _skip(self, slot: int, client: _Client, body: bytes) -> Problem:
        now = self._clock()
        if client.behind_since is None:
            client.behind_since = now
        if now - client.behind_since < self._limits.cut_after_s:
            self._behind += 1
            client.skipped = body
            return Problem.BEHIND
        self._cut += 1
        # Its owner frees the slot: until then nobody else may get it.
        self._clients[slot] = None
        self._cut_slots.add(slot)
        client.transport.abort()
        return Problem.CUT

    def statistics(self) -> FanOutStatistics:
        """What happened so far."""
        return FanOutStatistics(
            clients=len(self._clients) - len(self._free) - len(self._cut_slots),
            messages=self._messages,
            bytes=self._bytes,
            behind=self._behind,
            cut=self._cut,
        )


class UvRoutes(dict[int, int]):
    """Slots by client. Implements `fanout.Routes`."""

    def __init__(self, fan_out: UvFanOut) -> None:
        super().__init__()
        self._fan_out = fan_out

    def discard(self, client: int) -> None:
        """Write nothing to the client any more."""
        self.pop(client, None)

    def read(self, data: bytes) -> UvFlush:
        """Take what the node sent."""
        return UvFlush(self, self._fan_out, data)


class UvFlush:
    """An AttachResponse read by protobuf. Implements `fanout.Flush`."""

    def __init__(self, routes: UvRoutes, fan_out: UvFanOut, data: bytes) -> None:
        self._routes = routes
        self._fan_out = fan_out
        self._response = AttachResponse.FromString(data)
        self._frames = iter(self._response.frames)
        self._frame: RoomFrame | None = None

    @property
    def rest(self) -> bytes:
        """Everything in it but the frames."""
        rest = AttachResponse()
        rest.CopyFrom(self._response)
        rest.ClearField("frames")
        return rest.SerializeToString()

    def next_room(self, rooms: dict[str, Any], now: float, most: int) -> Passed | None:
        """Go to the next room's frame."""
        frame = self._frame = next(self._frames, None)
        return None if frame is None else (0, (frame.room_id, frame.epoch), None)

    def send(self, most: int) -> Sent:
        """Write all messages of the room: transports only note what is to be written."""
        if self._frame is None:
            return 0, True, None, None
        slots: list[int] = []
        bodies: list[bytes] = []
        strangers: list[tuple[int, bytes]] = []
        parts = self._frame.parts[:]
        for route in self._frame.routes:
            # A slice copies a repeated field in one go; iterating asks protobuf for each element.
            clients = route.clients[:]
            body = frames.as_message(b"".join(map(parts.__getitem__, route.parts[:])))
            try:
                found = list(map(self._routes.__getitem__, clients))
            except KeyError:
                found = [self._routes[client] for client in clients if client in self._routes]
                strangers += [(client, body) for client in clients if client not in self._routes]
            slots += found
            bodies += [body] * len(found)
        return len(slots), True, strangers, self._fan_out.push(slots, bodies)
