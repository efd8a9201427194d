"""Calls within WebSocket messages (docs/wire.md §8), as functions of bytes.

    message := call:1 [head frame] [body frame]       head: flag 0x80, "name: value" CRLF …

A head's lines become what the headers of a POST are to a call.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from rallypoint.gateway.domain import grpcweb, websocket
from rallypoint.gateway.domain.grpcweb import PREFIX_BYTES, TRAILER
from rallypoint.gateway.domain.websocket import Opcode
from rallypoint.kit import errors

MAX_HEAD_BYTES = 8 * 1024
MAX_HEAD_FIELDS = 32
CALL_BYTES = 1
AROUND_BYTES = CALL_BYTES + PREFIX_BYTES + MAX_HEAD_BYTES + PREFIX_BYTES
"""What a message may have besides the largest body."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a client."""

    call: int
    head: bytes | None
    """The lines of its head; None without one."""
    body: bytes
    """The frame behind it, not looked at."""

    @property
    def cancels(self) -> bool:
        """True when it only names a call."""
        return self.head is None and not self.body


def read(message: bytes) -> Said:
    """Split a message; Violation when it names no call or its head is cut off or too long."""
    if not message or message[0] == 0:
        raise websocket.Violation(websocket.PROTOCOL_ERROR, "CALL_MISSING")
    call, rest = message[0], message[CALL_BYTES:]
    if not rest or rest[0] != TRAILER:
        return Said(call, None, rest)
    end = PREFIX_BYTES + int.from_bytes(rest[1:PREFIX_BYTES], "big")
    if len(rest) < PREFIX_BYTES or end > len(rest):
        raise websocket.Violation(websocket.PROTOCOL_ERROR, "HEAD_MALFORMED")
    if end > PREFIX_BYTES + MAX_HEAD_BYTES:
        raise websocket.Violation(websocket.TOO_BIG, "HEAD_TOO_LARGE")
    return Said(call, rest[PREFIX_BYTES:end], rest[end:])


def fields(head: bytes) -> dict[str, str]:
    """The lines of a head, by name; a repeated one is joined by ", ", as in HTTP."""
    lines = head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    if len(lines) > MAX_HEAD_FIELDS:
        raise errors.ResourceExhausted("HEADER_FIELDS", "the call's head has too many lines")
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not name:
            raise errors.InvalidArgument("HEAD_MALFORMED", "a line of the head is not name: value")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def answer(call: int, frames: bytes) -> bytes:
    """The server's message of one call."""
    return b"%b%c%b" % (websocket.head(Opcode.BINARY, CALL_BYTES + len(frames)), call, frames)


def answered(call: int, body: bytes, end: bytes) -> bytes:
    """The whole answer of a unary call; `end` is its trailer frame."""
    return answer(call, grpcweb.frame(body) + end)


class CallFraming:
    """How the messages of one call's stream are framed. A `grpcweb.Framing`."""

    __slots__ = ("call",)

    def __init__(self, call: int) -> None:
        self.call = call

    def __call__(self, body: bytes) -> bytes:
        """The server's message around one of the stream."""
        size = len(body)
        head = websocket.head(Opcode.BINARY, CALL_BYTES + PREFIX_BYTES + size)
        return b"%b%c\0%b%b" % (head, self.call, size.to_bytes(4, "big"), body)


@functools.lru_cache(maxsize=256)
def framing(call: int) -> CallFraming:
    """The one object for all streams of this number."""
    return CallFraming(call)
