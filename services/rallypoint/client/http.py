"""HTTP/1.1 connections of a client: one request at a time each, kept and reused.

Lean on purpose: hundreds of players share one core with this. Nothing here makes a task; a `Reply`
is told what arrives, from the protocol's own callbacks.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from rallypoint.client import tls
from rallypoint.kit import addresses, errors

CONNECT_S = 3.0


class Reply(Protocol):
    """Who gets an answer. After `on_end` or `on_lost` nothing more comes."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The status and the headers are known."""

    def on_body(self, data: bytes) -> None:
        """A part of the body."""

    def on_end(self) -> None:
        """The answer is complete."""

    def on_lost(self, error: errors.RallypointError, *, untouched: bool) -> None:
        """The connection broke; `untouched` when no byte of an answer came."""


class Connection(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self) -> None:
        self.closed = False
        self.used = 0
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._touched = False
        self._finished = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether it can take a request."""
        return self._reply is None and not self.closed

    def send(self, data: bytes, reply: Reply) -> None:
        """Send a whole request and have `reply` told of the answer."""
        assert self._transport is not None
        self._reply = reply
        self._touched = False
        self.used += 1
        self._transport.write(data)

    def abort(self) -> None:
        """Drop the connection; the reply is told that it was lost."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the transport is gone."""
        await self._finished.wait()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._reply is None:
            self.abort()  # an answer nobody asked for
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lose(errors.Unavailable("CONNECTION_BROKEN", "the answer is not HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._finished.set()
        self._lose(errors.Unavailable("CONNECTION_LOST", str(exc or "the connection was closed")))

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        headers, self._headers = self._headers, []
        if self._reply is not None:
            self._reply.on_head(self._parser.get_status_code(), headers)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if self._reply is not None:
            self._reply.on_body(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        reply, self._reply = self._reply, None
        if not self._parser.should_keep_alive():
            self.closed = True
            self.abort()
        if reply is not None:
            reply.on_end()

    def _lose(self, error: errors.RallypointError) -> None:
        reply, self._reply = self._reply, None
        self.closed = True
        self.abort()
        if reply is not None:
            reply.on_lost(error, untouched=not self._touched)


class Pool:
    """The connections to one server: an idle one is reused, the newest first."""

    def __init__(self, server: addresses.Server) -> None:
        self._server = server
        self._tls = tls.context(secure=server.secure)
        self._all: set[Connection] = set()
        self._newest: Connection | None = None

    def idle(self) -> Connection | None:
        """A connection that can take a request at once, or None."""
        if self._newest is not None and self._newest.idle:
            return self._newest
        self._all = {one for one in self._all if not one.closed}
        idle = (one for one in self._all if one.idle)
        self._newest = max(idle, key=lambda one: one.used, default=None)
        return self._newest

    async def connect(self) -> Connection:
        """A new connection; Unavailable when the server does not take it."""
        loop = asyncio.get_running_loop()
        where = self._server.host, self._server.port
        try:
            async with asyncio.timeout(CONNECT_S):
                _, made = await loop.create_connection(Connection, *where, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            raise errors.Unavailable("CONNECT_FAILED", str(error)) from error
        self._all.add(made)
        return made

    async def close(self) -> None:
        """Drop all connections."""
        for one in tuple(self._all):
            one.abort()
            await one.wait_closed()
        self._all.clear()
        self._newest = None
