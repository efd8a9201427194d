"""A client of our own and a raw one, for tests of calls over one WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.wrappers_pb2 import BytesValue

from rallypoint.client import websocket_frames
from rallypoint.client.websocket import WebSocketChannel
from rallypoint.kit import errors
from tests.support import edge
from tests.support.edge import SERVICE, Running, Wire, wire, wrap

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"mask"


class Watched:
    """A stream's messages and its end."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.ends: list[errors.RallypointError | None] = []

    def on_message(self, message: bytes) -> None:
        self.values.append(BytesValue.FromString(message).value)

    def on_end(self, error: errors.RallypointError | None) -> None:
        self.ends.append(error)


@asynccontextmanager
async def channel(running: Running) -> AsyncIterator[WebSocketChannel]:
    """Our own client."""
    opened = WebSocketChannel(f"ws://{edge.HOST}:{running.port}")
    try:
        yield opened
    finally:
        await opened.close()


def handshake(**changes: str | None) -> bytes:
    """A handshake with other headers; None leaves one out."""
    fields: dict[str, str | None] = {
        "host": "edge.test",
        "connection": "keep-alive, Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
        "sec-websocket-protocol": "chat, rallypoint.v1",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"GET {websocket_frames.PATH} HTTP/1.1", *lines, "", ""]).encode()


@asynccontextmanager
async def raw(running: Running) -> AsyncIterator[Wire]:
    """A WebSocket without a client."""
    async with wire(running) as client:
        client.send(handshake())
        head = await client.head()
        assert head.http_status == 101
        assert head.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert head.headers["sec-websocket-protocol"] == "rallypoint.v1"
        yield client


async def read_frame(client: Wire) -> tuple[int, bytes]:
    """One frame of the server."""
    async with asyncio.timeout(30):
        first, size = await client.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await client.reader.readexactly(2), "big")
        return first, await client.reader.readexactly(size)


def message(number: int, method: str, value: bytes = b"hello", **options: bool) -> bytes:
    """A framed call of a client."""
    head = websocket_frames.head(SERVICE + method, **options)
    return websocket_frames.binary(websocket_frames.call(number, head, wrap(value)))


async def closed_with(client: Wire) -> tuple[int, str]:
    """The code and the reason the server closes with; whatever comes before is skipped."""
    while True:
        first, payload = await read_frame(client)
        if first == 0x88:
            await client.ends()
            return int.from_bytes(payload[:2], "big"), payload[2:].decode()
