"""Just enough HTTP/2 to send what grpcio's own client would not: two calls, headers of our choice.

The encoder does what Envoy's does: it puts a header into the dynamic table when the peer grants
one, and names it by its index the next time (RFC 7541 §6.2).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
HEADER_TABLE_SIZE = 1
_DYNAMIC_1 = 62  # the newest entry of the dynamic table
_LITERAL, _INDEXED = 0x00, 0x40


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def text(value: str) -> bytes:
    """Return a string literal of less than 127 bytes, not Huffman coded."""
    return bytes([len(value)]) + value.encode()


@dataclass
class Peer:
    """What the server has said."""

    table_bytes: int = 4096
    ended: dict[int, bytes] = field(default_factory=dict)


class Http2:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._indexed = ""
        self.peer = Peer()

    async def open(self) -> None:
        """Say hello; take the server's settings."""
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0))
        while await self._read() != SETTINGS:
            pass

    async def _read(self) -> int:
        async with asyncio.timeout(30):
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == HEADER_TABLE_SIZE:
                    self.peer.table_bytes = int.from_bytes(payload[at + 2 : at + 6], "big")
            self._writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, payload))
        elif (kind in (DATA, HEADERS) and flags & END_STREAM) or kind == RST_STREAM:
            self.peer.ended[stream] = payload
        return kind

    def send(self, stream: int, path: str, name: str, value: str, body: bytes) -> None:
        """Send a call with one more header, which is put into the table where there is one."""
        pairs = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "edge.test",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        block = b"\x20" if not self.peer.table_bytes and stream == 1 else b""
        block += b"".join(bytes([_LITERAL]) + text(k) + text(v) for k, v in pairs.items())
        block += self._indexing(name, value)
        self._writer.write(
            frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)
        )

    def _indexing(self, name: str, value: str) -> bytes:
        if not self.peer.table_bytes:
            return bytes([_LITERAL]) + text(name) + text(value)
        if self._indexed == name:
            return bytes([_INDEXED | _DYNAMIC_1]) + text(value)
        self._indexed = name
        return bytes([_INDEXED]) + text(name) + text(value)

    async def end(self, stream: int) -> bytes:
        """Return the last frame of a stream."""
        while stream not in self.peer.ended:
            await self._read()
        return self.peer.ended[stream]
