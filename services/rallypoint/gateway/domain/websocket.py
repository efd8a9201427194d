"""WebSocket frames (RFC 6455) at the server's end: bytes in, events out; no extension, binary only.

    frame  := fin:1 rsv:3 opcode:4 | mask:1 length:7 | length:2|8 | mask:4 (clients only) | payload

    reader = FrameReader(max_bytes=…)
    reader.feed(data)                          # keeps what is not complete
    while (event := reader.next_event()) is not None: ...

`next_event` raises `Violation` for what the peer may not send; it says with what to close. A
message may arrive in fragments with control frames between them; it is bounded as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
INVALID_TEXT = 1007
POLICY = 1008
TOO_BIG = 1009

FIN = 0x80
MASKED = 0x80
MAX_CONTROL_BYTES = 125
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_MASK_BYTES = 4
_RESERVED_BITS = 0x70
_CONTROL_BIT = 0x08
_WHOLE_BINARY = 0x82
_SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_PRIVATE = range(3000, 5000)


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A whole binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same data."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer is done; `code` is 0 when it gave none."""

    code: int


Event = Message | Ping | Close


class Violation(Exception):
    """The connection is to be closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def unmask(mask: bytes, data: bytes) -> bytes:
    """Return the data under a mask of four bytes; the same way back."""
    size = len(data)
    key = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def single(data: bytes) -> bytes | None:
    """The payload, if `data` is exactly one whole masked binary message: the usual read.

    None for anything else, right or wrong: that is for a reader.
    """
    if len(data) < 2 + _MASK_BYTES or data[0] != _WHOLE_BINARY:
        return None
    size = data[1] - MASKED
    start = 2 + _MASK_BYTES
    if size == _TWO_BYTES:
        size, start = int.from_bytes(data[2:4], "big"), 4 + _MASK_BYTES
        if size < _TWO_BYTES:
            return None
    elif not 0 <= size < _TWO_BYTES:
        return None
    if len(data) != start + size:
        return None
    return unmask(data[start - _MASK_BYTES : start], data[start:])


def head(opcode: int, size: int) -> bytes:
    """What goes before the payload of a server's whole frame."""
    if size < _TWO_BYTES:
        return b"%c%c" % (FIN | opcode, size)
    if size <= 0xFFFF:
        return b"%c\x7e%b" % (FIN | opcode, size.to_bytes(2, "big"))
    return b"%c\x7f%b" % (FIN | opcode, size.to_bytes(8, "big"))


def binary(payload: bytes) -> bytes:
    """A whole binary message from the server."""
    return head(Opcode.BINARY, len(payload)) + payload


def pong(data: bytes) -> bytes:
    """The answer to a ping."""
    return head(Opcode.PONG, len(data)) + data


def close(code: int, reason: str = "") -> bytes:
    """A close frame; without a code when it is 0."""
    payload = code.to_bytes(2, "big") + reason.encode()[: MAX_CONTROL_BYTES - 2] if code else b""
    return head(Opcode.CLOSE, len(payload)) + payload


class FrameReader:
    """Reads what a client sends."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._fragments: list[bytes] | None = None
        self._size = 0

    @property
    def between(self) -> bool:
        """True while no frame and no message is partly received."""
        return not self._held and self._fragments is None

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection."""
        self._held += data

    def next_event(self) -> Event | None:
        """The next complete message or control frame; None when more bytes are needed."""
        while (frame := self._next_frame()) is not None:
            opcode, final, payload = frame
            if opcode & _CONTROL_BIT:
                event = _control(opcode, payload)
                if event is not None:
                    return event
            elif (message := self._join(opcode, payload, final=final)) is not None:
                return Message(message)
        return None

    def _next_frame(self) -> tuple[int, bool, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        opcode, final = self._check(held[0], held[1])
        size, start = held[1] & 0x7F, 2
        if size >= _TWO_BYTES:
            start += 2 if size == _TWO_BYTES else 8
            if len(held) < start:
                return None
            least = _TWO_BYTES if size == _TWO_BYTES else 0x10000
            size = int.from_bytes(held[2:start], "big")
            if size < least:
                raise Violation(PROTOCOL_ERROR, "LENGTH_NOT_MINIMAL")
        if not opcode & _CONTROL_BIT and self._size + size > self._max_bytes:
            raise Violation(TOO_BIG, "MESSAGE_TOO_LARGE")
        start += _MASK_BYTES
        if len(held) < start + size:
            return None
        payload = unmask(
            bytes(held[start - _MASK_BYTES : start]), bytes(held[start : start + size])
        )
        del held[: start + size]
        return opcode, final, payload

    def _check(self, first: int, second: int) -> tuple[int, bool]:
        """The opcode and whether it is the last fragment, judged before the rest arrives."""
        opcode, final = first & 0x0F, bool(first & FIN)
        if first & _RESERVED_BITS or opcode not in _OPCODES:
            raise Violation(PROTOCOL_ERROR, "FRAME_UNKNOWN")
        if not second & MASKED:
            raise Violation(PROTOCOL_ERROR, "MASK_MISSING")
        if opcode & _CONTROL_BIT:
            if not final or second & 0x7F > MAX_CONTROL_BYTES:
                raise Violation(PROTOCOL_ERROR, "CONTROL_MALFORMED")
        elif opcode == Opcode.TEXT:
            raise Violation(UNSUPPORTED, "TEXT_UNSUPPORTED")
        elif (opcode == Opcode.CONTINUATION) is (self._fragments is None):
            raise Violation(PROTOCOL_ERROR, "FRAGMENT_UNEXPECTED")
        return opcode, final

    def _join(self, opcode: int, payload: bytes, *, final: bool) -> bytes | None:
        """The whole message, once its last fragment is here."""
        if opcode == Opcode.BINARY and final:
            return payload
        fragments = self._fragments = self._fragments if self._fragments is not None else []
        if payload:  # empty fragments are allowed, and any number of them costs nothing
            fragments.append(payload)
        self._size += len(payload)
        if not final:
            return None
        self._fragments, self._size = None, 0
        return b"".join(fragments)


def _control(opcode: int, payload: bytes) -> Ping | Close | None:
    if opcode == Opcode.PING:
        return Ping(payload)
    return _close_of(payload) if opcode == Opcode.CLOSE else None


def _close_of(payload: bytes) -> Close:
    if not payload:
        return Close(0)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or (code not in _SENDABLE and code not in _PRIVATE):
        raise Violation(PROTOCOL_ERROR, "CLOSE_MALFORMED")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT, "CLOSE_MALFORMED") from None
    return Close(code)


_OPCODES = frozenset(Opcode)
