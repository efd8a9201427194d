"""WebSocket frames and the calls in them, as a client reads and writes them (docs/wire.md §8).

Bytes in, values out, as in `grpcweb`: what a server of this protocol may not send is an error.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator

from rallypoint.client import grpcweb
from rallypoint.kit import errors

PATH = "/rallypoint.v1.websocket"
SUBPROTOCOL = "rallypoint.v1"
GOING_AWAY = 1001
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA
_FIN, _MASKED = 0x80, 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127

masks = random.Random()
"""Masks only keep bytes from looking like HTTP to old proxies, which no secret is needed for."""


# -- the handshake


def handshake(host: str, key: str, *, path: str = PATH) -> bytes:
    """The request that opens a WebSocket; `key` is 16 random bytes in base64."""
    return (
        f"GET {path} HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n"
        f"sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()


def refusal(head: bytes, key: str) -> errors.RallypointError | None:
    """Why a handshake was refused, by the head of its answer; None when it was not."""
    line, _, block = head.partition(b"\r\n")
    fields = grpcweb.trailers(block)
    status = line.split(b" ", 2)[1] if line.startswith(b"HTTP/1.1 ") else b""
    if status == b"101":
        digest = hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()
        spoken = fields.get("sec-websocket-protocol") == SUBPROTOCOL
        if spoken and fields.get("sec-websocket-accept") == base64.b64encode(digest).decode():
            return None
        return errors.Internal("HANDSHAKE_MALFORMED", "the answer is no WebSocket of this protocol")
    if "grpc-status" in fields:
        return grpcweb.failure(fields)
    if status.isdigit():
        return grpcweb.http_failure(int(status))
    return errors.Unavailable("CONNECTION_BROKEN", "the answer is not HTTP")


# -- frames


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A whole frame under a mask of four bytes."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    body = masked.to_bytes(size, "little")
    if size < _TWO_BYTES:
        return b"%c%c%b%b" % (_FIN | opcode, _MASKED | size, mask, body)
    if size <= 0xFFFF:
        return b"%c\xfe%b%b%b" % (_FIN | opcode, size.to_bytes(2, "big"), mask, body)
    return b"%c\xff%b%b%b" % (_FIN | opcode, size.to_bytes(8, "big"), mask, body)


def binary(payload: bytes) -> bytes:
    """A binary message."""
    return frame(_BINARY, payload, masks.randbytes(4))


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return frame(_PONG, payload, masks.randbytes(4))


def close(code: int) -> bytes:
    """A close frame."""
    return frame(_CLOSE, code.to_bytes(2, "big"), masks.randbytes(4))


class Closed(Exception):
    """The server said goodbye."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Frames:
    """Cuts what a server sends into messages, however it arrives."""

    def __init__(self) -> None:
        self.pings: list[bytes] = []
        """Data of pings that are not answered yet."""
        self._rest = b""
        self._fragments: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages completed by `data`; Closed after the last one, if that was said."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while (found := _header(data, at)) is not None:
            opcode, start, size = found
            if size > grpcweb.MAX_MESSAGE_BYTES:
                raise errors.Internal("MESSAGE_TOO_LARGE", f"a message of {size} bytes")
            if end - start < size:
                break
            at = start + size
            self._rest = data[at:]
            if (message := self._take(opcode, data[start:at])) is not None:
                yield message
        self._rest = data[at:] if at < end else b""

    def _take(self, first: int, payload: bytes) -> bytes | None:
        opcode = first & 0x0F
        if first == _FIN | _BINARY:
            return payload
        if opcode == _CLOSE:
            raise Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace"))
        if opcode == _PING:
            self.pings.append(payload)
            return None
        if opcode == _PONG:
            return None
        if opcode not in (0, _BINARY):
            raise errors.Internal("FRAME_UNKNOWN", f"a frame of opcode {opcode}")
        self._fragments.append(payload)
        if not first & _FIN:
            return None
        whole = b"".join(self._fragments)
        self._fragments.clear()
        return whole


def _header(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The first byte of a frame, where its payload starts and how long that is."""
    if len(data) - at < 2:
        return None
    size, start = data[at + 1], at + 2
    if size & _MASKED:
        raise errors.Internal("FRAME_UNKNOWN", "a server's frame is masked")
    if size >= _TWO_BYTES:
        start += 2 if size == _TWO_BYTES else 8
        if len(data) < start:
            return None
        size = int.from_bytes(data[at + 2 : start], "big")
    return data[at], start, size


# -- calls


def head(path: str, *, token: str = "", timeout_ms: int = 0, lane: bool = False) -> bytes:
    """The head frame of a call; `lane` asks for answers to failures only."""
    lines = [f"path: {path}"]
    if token:
        lines.append(f"authorization: Bearer {token}")
    if timeout_ms:
        lines.append(f"grpc-timeout: {timeout_ms}m")
    if lane:
        lines.append("answer: failures")
    block = "\r\n".join([*lines, ""]).encode()
    return b"%c%b%b" % (grpcweb.TRAILER_FLAG, len(block).to_bytes(4, "big"), block)


def call(number: int, head_frame: bytes, message: bytes) -> bytes:
    """A client's message: `head_frame` is empty when a lane is used again."""
    return b"%c%b\0%b%b" % (number, head_frame, len(message).to_bytes(4, "big"), message)


def cancel(number: int) -> bytes:
    """The message that cancels a call."""
    return b"%c" % number


def answer(message: bytes) -> tuple[list[bytes], dict[str, str] | None]:
    """The messages in a server's message, and the trailers when the call has ended."""
    # Nearly always one frame that fills it.
    if message[1:2] == b"\0" and int.from_bytes(message[2:6], "big") == len(message) - 6:
        return [message[6:]], None
    bodies: list[bytes] = []
    at, end = 1, len(message)
    while at < end:
        start = at + grpcweb.PREFIX_BYTES
        flag, size = message[at], int.from_bytes(message[at + 1 : start], "big")
        at = start + size
        if at > end or start > end:
            raise errors.Internal("FRAME_MALFORMED", "a frame is cut off")
        if flag & grpcweb.TRAILER_FLAG:
            if at < end:
                raise errors.Internal("FRAME_MALFORMED", "bytes after the trailers")
            return bodies, grpcweb.trailers(message[start:at])
        bodies.append(message[start:at])
    return bodies, None
