"""One WebSocket of the web edge: many calls at once over one connection (docs/wire.md §8).

A connection comes here from `web_protocol` after its handshake; its calls are in `websocket_calls`.
What a client does not read stops what it asks: while the transport is full, only calls of lanes
that need no answer are served. `expires` is read by the edge's sweep.
"""

from __future__ import annotations

import asyncio
import contextlib

from rallypoint.gateway import calls
from rallypoint.gateway.domain import websocket, websocket_calls
from rallypoint.gateway.web_core import Core, Registry
from rallypoint.gateway.websocket_calls import SocketCalls
from rallypoint.gateway.websocket_lane import Lane
from rallypoint.kit import metrics

MAX_BYTES = calls.MESSAGE_MAX_BYTES + websocket_calls.AROUND_BYTES
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
_PROGRESS_S = 5.0
_PROGRESS_BYTES = 16 * 1024
NEVER = float("inf")


class Socket(asyncio.Protocol):
    """The protocol of one WebSocket."""

    def __init__(
        self,
        core: Core,
        registry: Registry,
        transport: asyncio.Transport,
        *,
        peer: str,
        client: str,
    ) -> None:
        """`peer` is the other end, `client` whom a proxy in front names."""
        self.transport = transport
        self.peer = peer
        self.expires = NEVER
        self._core = core
        self._registry = registry
        self._reader = websocket.FrameReader(max_bytes=MAX_BYTES)
        self._calls = SocketCalls(core, self, client=client)
        self._lanes = self._calls.lanes
        self._held: bytes | None = None
        """A message that waits until the client reads."""
        self._partial_since: float | None = None
        self._draining = False
        self._closing = False
        self._discarded = 0
        self._unsent_before = 0
        self._full = False
        self.armed: int | None = None
        """Its place in the drain, which reads its socket then."""
        self._writable = asyncio.Event()
        self._writable.set()
        metrics.GATEWAY_WEBSOCKETS.inc()
        self._rest()

    # --- what asyncio calls ---

    def data_received(self, data: bytes) -> None:
        """Take bytes; serve the messages they complete."""
        if self._closing:
            self._discard(len(data))
            return
        reader = self._reader
        if self._held is None and reader.between:
            message = websocket.single(data)
            if message is not None and (lane := self._lanes.get(message[0] if message else 0)):
                now = self._core.loop.time()
                if lane.serve(message, now):
                    self.expires = NEVER if self._calls.busy else now + self._idle_s
                    if lane.repeats and self._core.drain is not None:
                        self._offer(lane, message)
                    return
        reader.feed(data)
        self._go_on()

    def eof_received(self) -> bool:
        """Take a half-closed connection for a client that left."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what still runs."""
        if self._core.drain is not None:
            self._core.drain.forget(self)
        self._registry.forget(self)
        metrics.GATEWAY_WEBSOCKETS.dec()
        self._closing = True
        self._full = False
        self._writable.set()
        self._calls.abandon()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._full = False
        self._writable.set()
        if self._held is not None:
            self._core.loop.call_soon(self._resume)

    # --- what streams and the edge call ---

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""
        await self._writable.wait()

    def expire(self) -> None:
        """The sweep found `expires` in the past."""
        if self.armed is not None and self._was_busy_armed():
            return
        if self.transport.is_closing() and not self.unsent:
            self.expires = NEVER
        elif self.unsent:
            before, self._unsent_before = self._unsent_before, self.unsent
            if before and before - self.unsent < _PROGRESS_BYTES:
                self.transport.abort()
            else:
                self.expires = self._core.loop.time() + _PROGRESS_S
        elif self._closing:
            self.transport.abort()
        elif self._partial_since is not None:
            self._close(websocket.POLICY, "REQUEST_TIMEOUT")
        else:
            self._close(websocket.GOING_AWAY, "IDLE")

    def drain(self) -> None:
        """Close as soon as nothing is running; streams are ended with their farewell."""
        self._draining = True
        self._calls.drain()
        self._leave_if_done()

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait in this process."""
        return self.transport.get_write_buffer_size()

    @property
    def idle(self) -> bool:
        """True when no call is running."""
        return not self._calls.busy

    # --- the drain ---

    def _offer(self, lane: Lane, message: bytes) -> None:
        """Let the drain read what will be like a message of a lane."""
        arming = lane.arming(message)
        if arming is not None and self._core.drain is not None:
            self._core.drain.offer(self, arming)

    @property
    def is_quiet(self) -> bool:
        """True when nothing is half received and nothing waits."""
        at_rest = self._reader.between and self._held is None
        return at_rest and not (self._closing or self.transport.is_closing())

    def returned(self, data: bytes, unsent: bytes) -> None:
        """The drain reads no more; it answers nothing, so nothing is `unsent`."""
        if self.transport.is_closing():
            return
        self._rest()
        self.transport.resume_reading()
        if data:
            self.data_received(data)

    def _was_busy_armed(self) -> bool:
        """Whether the drain heard of the client meanwhile; if not, the drain lets go of it."""
        drain = self._core.drain
        assert drain is not None
        self.expires = NEVER if self._calls.busy else drain.seen_at(self) + self._idle_s
        if self.expires > self._core.loop.time():
            return True
        drain.release(self)
        return False

    # --- messages ---

    @property
    def _idle_s(self) -> float:
        return self._core.settings.idle_timeout_s

    def _go_on(self) -> None:
        """Serve what has arrived, until the client has to read first."""
        try:
            while not self._closing and self._held is None:
                event = self._reader.next_event()
                if event is None:
                    break
                self._take(event)
        except websocket.Violation as violation:
            self._close(violation.code, violation.reason)
        if not self._closing:
            self._rest()

    def _take(self, event: websocket.Event) -> None:
        match event:
            case websocket.Message(data):
                self._partial_since = None  # a ping between its parts gives a message no more time
                self._take_message(data)
            case websocket.Ping(data):
                if not self._full:  # only the latest ping has to be answered
                    self.write(websocket.pong(data))
            case websocket.Close(code):
                self._close(code)

    def _take_message(self, message: bytes) -> None:
        lane = self._lanes.get(message[0]) if message else None
        if lane is not None and lane.serve(message, self._core.loop.time()):
            return
        if self._full and not self.transport.is_closing():
            self._held = message
            self.transport.pause_reading()
            return
        self._calls.serve(websocket_calls.read(message))

    def _resume(self) -> None:
        """Go on with the message that waited for the client to read."""
        message, self._held = self._held, None
        if message is None or self._closing:
            return
        self.transport.resume_reading()
        try:
            self._take_message(message)
        except websocket.Violation as violation:
            self._close(violation.code, violation.reason)
        else:
            self._go_on()

    # --- the end of a call, and of the connection ---

    def ended(self) -> None:
        """A call is over, perhaps the last one."""
        if not self._closing:
            self._rest()
            self._leave_if_done()

    def _rest(self) -> None:
        """Say until when the client may stay silent."""
        now = self._core.loop.time()
        if self._reader.between or self._held is not None:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = now
        if self._partial_since is not None:
            self.expires = self._partial_since + self._core.settings.request_timeout_s
        else:
            self.expires = NEVER if self._calls.busy else now + self._idle_s

    def _leave_if_done(self) -> None:
        if self._draining and not self._calls.busy and not self._closing:
            self._close(websocket.GOING_AWAY, "DRAINING")

    def _close(self, code: int, reason: str = "") -> None:
        """Say goodbye and let the client have the last word for a while."""
        if self._closing:
            return
        if self._core.drain is not None:
            self._core.drain.release(self)
        self._closing = True
        if self._held is not None and not self.transport.is_closing():
            self._held = None
            self.transport.resume_reading()
        if reason and code != websocket.GOING_AWAY:
            metrics.GATEWAY_REFUSALS.labels(reason).inc()
        self._calls.abandon()
        self.write(websocket.close(code, reason))
        self.expires = self._core.loop.time() + _LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()

    def write(self, data: bytes) -> None:
        """Send; nothing happens when the connection is gone."""
        # uvloop's error between a reset and `connection_lost`
        with contextlib.suppress(RuntimeError):
            self.transport.write(data)
        self._calls.touch()
