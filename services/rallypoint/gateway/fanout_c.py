"""The fan-out that writes to sockets from C (`_edge`), past the transports of clients who read.

A message goes to a client's socket only while its transport holds nothing unsent, so that bytes
stay in order: whatever else is written to the transport is `touch`ed, and what a socket did not
take of a message, be it the whole, goes there too: to wait there, or to be skipped where too much
waits already.
What C cannot do (text mode, native streams, transports that wait) is done by `uv`, whose book of
clients and slow readers this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rallypoint.gateway import _edge
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.domain.grpcweb import Framing
from rallypoint.gateway.domain.websocket_calls import CallFraming
from rallypoint.gateway.fanout import (
    Clock,
    FanOutLimits,
    FanOutStatistics,
    Problem,
    Routes,
    Transport,
    socket_of,
)
from rallypoint.gateway.fanout_uv import UvFanOut


class CFanOut:
    """Implements `fanout.FanOut`."""

    name = "c"

    def __init__(self, limits: FanOutLimits, *, clock: Clock) -> None:
        self._uv = UvFanOut(limits, clock=clock)
        self._sender = _edge.Sender()
        self._by_socket: dict[int, list[int]] = {}
        """Slots of streams within WebSockets, by descriptor; `_sockets` is the way back."""
        self._sockets: dict[int, int] = {}

    def add(self, transport: Transport, framing: Framing) -> int:
        """Register a client."""
        slot = self._uv.add(transport, framing)
        if framing is grpcweb.web:
            self._sender.add(slot, socket_of(transport))
        elif isinstance(framing, CallFraming):
            self._add_call(slot, socket_of(transport), framing.call)
        else:
            self._sender.add(slot, -1)
        return slot

    def _add_call(self, slot: int, fd: int, call: int) -> None:
        """A stream within a WebSocket. Two of one connection would write into each other's
        messages when the socket takes a part: both are left to the transport then."""
        if fd >= 0:
            slots = self._by_socket.setdefault(fd, [])
            slots.append(slot)
            self._sockets[slot] = fd
            if len(slots) > 1:
                self._sender.add(slots[0], -1)
                fd = -1
        self._sender.add(slot, fd, call)

    def remove(self, slot: int) -> None:
        """Forget a client."""
        self._sender.remove(slot)
        self._uv.remove(slot)
        fd = self._sockets.pop(slot, -1)
        if fd >= 0:
            self._by_socket[fd].remove(slot)
            if not self._by_socket[fd]:
                del self._by_socket[fd]

    def touch(self, slot: int) -> None:
        """Let the transport be asked before the next message."""
        self._sender.touch(slot, touched=True)

    def unsent(self, slot: int) -> int:
        """Bytes that wait in the slot's transport."""
        return self._uv.unsent(slot)

    def skipped(self, slot: int) -> bytes:
        """What a client that is behind did not get."""
        return self._uv.skipped(slot)

    def routes(self) -> Routes:
        """An empty table for one node."""
        return _edge.Routes(self._sender)

    def push(self, slots: Sequence[int], bodies: Sequence[bytes]) -> list[tuple[int, Problem]]:
        """Write bodies[i] to slots[i]."""
        events = self._sender.push(list(slots), list(bodies))
        return self.settle(events) if events else []

    def settle(self, events: list[Any]) -> list[tuple[int, Problem]]:
        """Do what C left over."""
        problems: list[tuple[int, Problem]] = []
        slots: list[int] = []
        bodies: list[bytes] = []
        for slot, kind, data in events:
            if kind == _edge.FULL:
                problems += self._uv.push([slot], [data])
            elif kind != _edge.PYTHON:
                problems += self._settle(slot, kind, data)
            elif self._is_idle(slot) and self._sender.touch(slot, touched=False):
                problems += self._push_again(slot, data)
            else:
                slots.append(slot)
                bodies.append(data)
        problems += self._uv.push(slots, bodies)
        for slot, problem in problems:
            if problem is Problem.CUT:
                self._sender.remove(slot)
        return problems

    def _push_again(self, slot: int, data: bytes) -> list[tuple[int, Problem]]:
        """Write to a client whose transport has sent what it held."""
        problems = self.push([slot], [data])
        if not problems:
            self._uv.caught_up(slot)
        return problems

    def _settle(self, slot: int, kind: int, data: bytes) -> list[tuple[int, Problem]]:
        transport = self._uv.transport(slot)
        if kind == _edge.BROKEN:
            if transport is not None:
                transport.abort()
            return [(slot, Problem.GONE)]
        self._uv.caught_up(slot)
        if kind == _edge.SHORT and transport is not None:
            try:
                transport.write(data)
            except RuntimeError:  # uvloop's, between a reset and `connection_lost`
                transport.abort()  # a part of the message is out: nothing may follow it
                return [(slot, Problem.GONE)]
        return []

    def _is_idle(self, slot: int) -> bool:
        transport = self._uv.transport(slot)
        return transport is not None and not transport.get_write_buffer_size()

    def statistics(self) -> FanOutStatistics:
        """What happened so far."""
        by_uv = self._uv.statistics()
        messages, size = self._sender.counts()
        return replace(by_uv, messages=by_uv.messages + messages, bytes=by_uv.bytes + size)
