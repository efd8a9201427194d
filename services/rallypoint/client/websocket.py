"""All calls over one WebSocket (docs/wire.md §8): `ws://…` or `wss://…`, a `channel.Channel`.

The connection is made by the first call and again by the first one after it broke; what ran when
it broke fails with Unavailable. `say` is the way of inputs: on a lane, answered only when refused.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from rallypoint.client import grpcweb, tls
from rallypoint.client import websocket_frames as frames
from rallypoint.kit import addresses, errors

CONNECT_S = 3.0
CALL_S = 5.0
SILENT_S = 1.5
"""A call given up after such a silence takes the connection with it: it leads nowhere."""
_STREAMS = range(1, 8)  # the lowest free one: a room's stream has number 1
_LANES = range(8, 12)
_UNARY = range(16, 256)

Failed = Callable[[errors.RallypointError], None]


class Listener(Protocol):
    """Who gets the messages of a stream; as in `channel`."""

    def on_message(self, message: bytes) -> None:
        """The next message."""

    def on_end(self, error: errors.RallypointError | None) -> None:
        """The stream is over."""


class _Unbegun(errors.Unavailable):
    """The server left before it began the call."""


class WebSocketChannel:
    """Calls over a connection that is made again when it broke."""

    def __init__(self, url: str) -> None:
        self._server = addresses.server(url, "ws")
        self._tls = tls.context(secure=self._server.secure)
        self._opening = asyncio.Lock()
        self._line: _Line | None = None

    async def unary(
        self, path: str, request: bytes, *, token: str = "", timeout_s: float = CALL_S
    ) -> bytes:
        """One call; raises the error that the server tells."""
        head = frames.head(path, token=token, timeout_ms=int(timeout_s * 1e3))
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._exchange(head, request)
                except _Unbegun:
                    return await self._exchange(head, request)
        except TimeoutError as error:
            message = f"{path} took longer than {timeout_s:g} s"
            raise errors.DeadlineExceeded("CLIENT_DEADLINE", message) from error

    async def stream(
        self, path: str, request: bytes, *, listener: Listener, token: str = ""
    ) -> _Stream:
        """Start a server stream."""
        line = await self._open()
        return _Stream(line, listener, frames.head(path, token=token), request)

    def say(self, path: str, request: bytes, *, token: str, failed: Failed) -> bool:
        """A call on a lane, of which only a failure is told; False while not connected."""
        line = self._line
        if line is None or line.closed:
            return False
        line.say(path, request, token=token, failed=failed)
        return True

    async def close(self) -> None:
        """Drop the connection."""
        line, self._line = self._line, None
        if line is not None:
            line.leave()
            await line.wait_closed()

    async def _exchange(self, head: bytes, request: bytes) -> bytes:
        line = await self._open()
        waiting = _Unary(line)
        line.call(waiting.number, head, request)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            line.give_up(waiting.number)
            raise

    async def _open(self) -> _Line:
        async with self._opening:
            if self._line is None or self._line.closed:
                self._line = await _connect(self._server, self._tls)
            return self._line


async def _connect(server: addresses.Server, secure: ssl.SSLContext | None) -> _Line:
    loop = asyncio.get_running_loop()
    line = _Line(server.name, loop)
    try:
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(lambda: line, server.host, server.port, ssl=secure)
            await line.opened
    except (OSError, TimeoutError) as error:
        raise errors.Unavailable("CONNECT_FAILED", str(error)) from error
    finally:
        if not line.opened.done() or line.closed:
            line.opened.cancel()
            line.abort()
    return line


class _Receiver(Protocol):
    """Who is told what belongs to one number."""

    def on_message(self, message: bytes) -> None:
        """A message."""

    def on_end(self, error: errors.RallypointError | None) -> None:
        """The call has ended."""


class _Unary:
    """Waits for one answer."""

    def __init__(self, line: _Line) -> None:
        self.number = line.take(_UNARY, self)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._message = b""

    def on_message(self, message: bytes) -> None:
        self._message += message

    def on_end(self, error: errors.RallypointError | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(self._message)
        else:
            self.answer.set_exception(error)


class _Stream:
    """A running stream."""

    def __init__(self, line: _Line, listener: Listener, head: bytes, request: bytes) -> None:
        self._line = line
        self._listener: Listener | None = listener
        self._number = line.take(_STREAMS, self)
        line.call(self._number, head, request)

    def on_message(self, message: bytes) -> None:
        if self._listener is not None:
            self._listener.on_message(message)

    def on_end(self, error: errors.RallypointError | None) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_end(error)

    def close(self) -> None:
        """End it from here; nothing more is told."""
        if self._listener is None:
            return
        self._listener = None
        self._line.give_up(self._number)


class _Lane:
    """Keeps its number for as long as the connection lives."""

    def __init__(self, line: _Line) -> None:
        self.number = line.take(_LANES, self)
        self.head = b""
        self.token = ""
        self.failed: Failed = lambda _: None

    def on_message(self, message: bytes) -> None:
        pass

    def on_end(self, error: errors.RallypointError | None) -> None:
        if error is not None:
            if error.reason == "HEAD_MISSING":
                self.token = ""
            self.failed(error)


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, netloc: str, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self._heard_s = 0.0
        self._now = loop.time
        self.opened: asyncio.Future[None] = loop.create_future()
        self._netloc = netloc
        self._key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._frames = frames.Frames()
        self._receivers: dict[int, _Receiver] = {}
        self._lanes: dict[str, _Lane] = {}
        self._finished = asyncio.Event()

    # -- calls

    def take(self, numbers: range, receiver: _Receiver) -> int:
        """The lowest free number of a range, from now on the receiver's."""
        number = next((n for n in numbers if n not in self._receivers), 0)
        if not number:
            raise errors.ResourceExhausted("CALLS_EXCEEDED", "too many calls at once")
        if len(self._receivers) == len(self._lanes):
            self._heard_s = self._now()  # nobody has waited until now: the silence begins here
        self._receivers[number] = receiver
        return number

    def call(self, number: int, head: bytes, request: bytes) -> None:
        """Begin a call."""
        self._write(frames.binary(frames.call(number, head, request)))

    def say(self, path: str, request: bytes, *, token: str, failed: Failed) -> None:
        """A call on the lane of a path; its head goes along when it is new."""
        lane = self._lanes.get(path)
        if lane is None:
            lane = self._lanes[path] = _Lane(self)
        head = b""
        if lane.token != token:
            head, lane.token = frames.head(path, token=token, lane=True), token
        lane.failed = failed
        self.call(lane.number, head, request)

    def give_up(self, number: int) -> None:
        """End a call from here, and the connection too if nothing has come for long.

        The number is free once the server agrees.
        """
        if number not in self._receivers:
            return
        if self._now() - self._heard_s > SILENT_S:
            self.abort()
        else:
            self._write(frames.binary(frames.cancel(number)))

    def leave(self) -> None:
        """Say goodbye and close."""
        self._write(frames.close(1000))
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the transport is gone."""
        await self._finished.wait()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(frames.handshake(self._netloc, self._key))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._heard_s = self._now()
        if not self.opened.done():
            data = self._shake_hands(data)
        try:
            for message in self._frames.feed(data):
                self._receive(message)
        except frames.Closed as said:
            kind = _Unbegun if said.code == frames.GOING_AWAY else errors.Unavailable
            reason = said.reason or f"CLOSED_{said.code}"
            self._lose(kind(reason, f"the server closed the connection ({said.code})"))
        except errors.RallypointError as error:
            self._lose(error)
        if self._frames.pings:
            self._write(frames.pong(self._frames.pings[-1]))
            self._frames.pings.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._finished.set()
        self._lose(errors.Unavailable("CONNECTION_LOST", str(exc or "the connection was closed")))

    def _shake_hands(self, data: bytes) -> bytes:
        """Take the answer's head; what follows it."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return b""
        refused = frames.refusal(self._head[:end], self._key)
        if refused is not None:
            self._lose(refused)
            return b""
        self.opened.set_result(None)
        return self._head[end + 4 :]

    def _receive(self, message: bytes) -> None:
        receiver = self._receivers.get(message[0]) if message else None
        if receiver is None:
            raise errors.Internal("CALL_UNKNOWN", "an answer that nobody waits for")
        bodies, trailers = frames.answer(message)
        for body in bodies:
            receiver.on_message(body)
        if trailers is not None:
            if not isinstance(receiver, _Lane):
                del self._receivers[message[0]]
            receiver.on_end(grpcweb.failure(trailers))

    def _lose(self, error: errors.RallypointError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        if not self.closed:
            self.closed = True
            self.abort()
        receivers, self._receivers = self._receivers, {}
        for receiver in receivers.values():
            if not isinstance(receiver, _Lane):
                receiver.on_end(error)
