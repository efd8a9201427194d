"""Calls to one server: `unary` waits for an answer, `stream` pushes messages to a listener.

`WebChannel` speaks gRPC-Web over HTTP/1.1, `websocket.WebSocketChannel` the same over a WebSocket,
`native.NativeChannel` gRPC over HTTP/2; what is built on `Channel` runs over all of them. Messages
are bytes here: `call` and `messages` add the types.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from rallypoint.client import grpcweb, http, websocket
from rallypoint.kit import addresses, errors

CALL_S = 5.0

Request = TypeVar("Request", bound=Message, contravariant=True)
Answer = TypeVar("Answer", bound=Message)
Done = Callable[[bytes, errors.RallypointError | None], None]


class Listener(Protocol):
    """Who gets the messages of a stream."""

    def on_message(self, message: bytes) -> None:
        """The next message."""

    def on_end(self, error: errors.RallypointError | None) -> None:
        """The stream is over: None means with OK. Comes once, also after `Stream.close`."""


class Stream(Protocol):
    """A running stream."""

    def close(self) -> None:
        """End it from here; nothing more is told."""


class Channel(Protocol):
    """A way to reach the services."""

    async def unary(
        self, path: str, request: bytes, *, token: str = "", timeout_s: float = CALL_S
    ) -> bytes:
        """One call; raises the error that the server tells."""

    async def stream(
        self, path: str, request: bytes, *, listener: Listener, token: str = ""
    ) -> Stream:
        """Start a server stream; Unavailable when the server cannot be reached."""

    async def close(self) -> None:
        """Drop all connections."""


class WebChannel:
    """gRPC-Web over HTTP/1.1 to `http://host:port`."""

    def __init__(self, url: str) -> None:
        server = addresses.server(url, "http")
        self._host = server.name
        self._pool = http.Pool(server)
        self._heads: dict[tuple[str, str, int], bytes] = {}

    async def unary(
        self, path: str, request: bytes, *, token: str = "", timeout_s: float = CALL_S
    ) -> bytes:
        """One call over an idle connection or a new one."""
        data = grpcweb.request(self._head(path, token, timeout_ms=int(timeout_s * 1e3)), request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(data)
        except TimeoutError as error:
            message = f"{path} took longer than {timeout_s:g} s"
            raise errors.DeadlineExceeded("CLIENT_DEADLINE", message) from error

    def post(self, path: str, request: bytes, *, token: str, done: Done) -> bool:
        """A call without waiting, over an idle connection; False when there is none."""
        connection = self._pool.idle()
        if connection is None:
            return False
        data = grpcweb.request(self._head(path, token, timeout_ms=0), request)
        connection.send(data, _Unary(done))
        return True

    async def stream(
        self, path: str, request: bytes, *, listener: Listener, token: str = ""
    ) -> _WebStream:
        """Start a server stream on a connection of its own."""
        connection = self._pool.idle() or await self._pool.connect()
        started = _WebStream(connection, listener)
        head = self._head(path, token, timeout_ms=0)
        connection.send(grpcweb.request(head, request), started)
        return started

    async def prepare(self, connections: int = 1) -> None:
        """Open connections ahead, for `post`."""
        for _ in range(connections):
            await self._pool.connect()

    async def close(self) -> None:
        """Drop all connections."""
        await self._pool.close()

    async def _exchange(self, data: bytes) -> bytes:
        idle = self._pool.idle()
        if idle is not None:
            try:
                return await self._over(idle, data)
            except _Untouched:
                pass  # the server closed it while idle and has seen nothing
        return await self._over(await self._pool.connect(), data)

    async def _over(self, connection: http.Connection, data: bytes) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(message: bytes, error: errors.RallypointError | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(message)
            else:
                answer.set_exception(error)

        connection.send(data, _Unary(done))
        try:
            return await answer
        except asyncio.CancelledError:
            connection.abort()
            raise

    def _head(self, path: str, token: str, *, timeout_ms: int) -> bytes:
        key = (path, token, timeout_ms)
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) > 64:  # tokens change: forget the heads of old ones
                self._heads.clear()
            found = grpcweb.head(self._host, path, token=token, timeout_ms=timeout_ms)
            self._heads[key] = found
        return found


class _Untouched(errors.Unavailable):
    """A kept connection broke before any byte of an answer."""


class _Answer:
    """What unary and stream answers have in common: status, frames, trailers."""

    def __init__(self) -> None:
        self._frames = grpcweb.Frames()
        self._http_status = 0
        self._is_ours = True
        self._fields: dict[str, str] = {}

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Called by the connection."""
        self._http_status = status
        self._is_ours = status == 200 and any(
            name.lower() == b"content-type" and value.startswith(b"application/grpc-web")
            for name, value in headers
        )
        if not self._is_ours or any(name.lower() == b"grpc-status" for name, _ in headers):
            self._fields = grpcweb.header_fields(headers)

    def failure(self) -> errors.RallypointError | None:
        """How the call ended."""
        if self._is_ours or "grpc-status" in self._fields:
            return grpcweb.failure(self._fields)
        return grpcweb.http_failure(self._http_status)

    def split(self, data: bytes) -> list[bytes]:
        """The messages completed by `data`; trailers are kept aside."""
        messages: list[bytes] = []
        if not self._is_ours:
            return messages  # a page of whatever else listens there
        for flag, body in self._frames.feed(data):
            if flag & grpcweb.TRAILER_FLAG:
                self._fields = grpcweb.trailers(body)
            else:
                messages.append(body)
        return messages


class _Unary(_Answer):
    def __init__(self, done: Done) -> None:
        super().__init__()
        self._done = done
        self._message = b""
        self._broken: errors.RallypointError | None = None

    def on_body(self, data: bytes) -> None:
        try:
            self._message = b"".join((self._message, *self.split(data)))
        except errors.RallypointError as error:
            self._broken = error

    def on_end(self) -> None:
        self._done(self._message, self._broken or self.failure())

    def on_lost(self, error: errors.RallypointError, *, untouched: bool) -> None:
        self._done(b"", _Untouched(error.reason, error.message) if untouched else error)


class _WebStream(_Answer):
    def __init__(self, connection: http.Connection, listener: Listener) -> None:
        super().__init__()
        self._connection = connection
        self._listener: Listener | None = listener

    def on_body(self, data: bytes) -> None:
        try:
            for message in self.split(data):
                if self._listener is not None:
                    self._listener.on_message(message)
        except errors.RallypointError as error:
            self._end(error)
            self._connection.abort()

    def on_end(self) -> None:
        self._end(self.failure())

    def on_lost(self, error: errors.RallypointError, *, untouched: bool) -> None:
        self._end(error)

    def close(self) -> None:
        if self._listener is not None:  # else the connection may serve another call by now
            self._listener = None
            self._connection.abort()

    def _end(self, error: errors.RallypointError | None) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_end(error)


SCHEMES = {"grpc-web": "http", "websocket": "ws"}
"""The scheme of a gateway's address, by the name of a transport."""


def address(url: str, transport: str) -> str:
    """The address of the gateway at `http://…` or `https://…` for a transport of SCHEMES."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        return url
    return f"{SCHEMES[transport]}{scheme.removeprefix('http')}://{rest}"


def open_channel(url: str) -> Channel:
    """A channel for `http://…` (gRPC-Web), `ws://…` (one WebSocket) or `grpc://…` (native).

    With an s (`https`, `wss`, `grpcs`) over TLS.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("ws", "wss"):
        return websocket.WebSocketChannel(url)
    if scheme in ("grpc", "grpcs"):
        from rallypoint.client.native import NativeChannel  # grpcio: only who uses it pays

        return NativeChannel(rest, secure=scheme == "grpcs")
    return WebChannel(url)


async def call(
    channel: Channel, path: str, request: Message, *, answer: type[Answer], token: str = ""
) -> Answer:
    """One typed call; Internal when the answer cannot be decoded."""
    message = await channel.unary(path, request.SerializeToString(), token=token)
    return decoded(message, answer)


async def messages(
    channel: Channel, path: str, request: Message, *, answer: type[Answer], token: str = ""
) -> AsyncGenerator[Answer, None]:
    """The typed messages of a stream; closing the iterator closes the stream."""
    inbox = _Inbox()
    stream = await channel.stream(path, request.SerializeToString(), listener=inbox, token=token)
    try:
        while (message := await inbox.next()) is not None:
            yield decoded(message, answer)
    finally:
        stream.close()


def decoded(message: bytes, answer: type[Answer]) -> Answer:
    """The protobuf message in `message`."""
    try:
        return answer.FromString(message)
    except DecodeError as error:
        raise errors.Internal("ANSWER_MALFORMED", "the answer cannot be decoded") from error


class _Inbox:
    """A listener to wait on."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | errors.RallypointError | None] = asyncio.Queue()

    def on_message(self, message: bytes) -> None:
        self._queue.put_nowait(message)

    def on_end(self, error: errors.RallypointError | None) -> None:
        self._queue.put_nowait(error)

    async def next(self) -> bytes | None:
        """The next message; None at the end; raises the error the stream ended with."""
        item = await self._queue.get()
        if isinstance(item, errors.RallypointError):
            raise item
        return item
