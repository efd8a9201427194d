"""A client's frame from a room's parts, without a protobuf object (docs/wire.md §7).

A node sends encoded fields of `rallypoint.v1.Frame`; what a client reads is field 2 of
`JoinResponse`: `0x12 ‖ varint(length) ‖ parts…`. Whether that is a keyframe (base_tick, field 3,
absent or 0) is asked only for a client that waits for one, so looking it up may cost a scan.
"""

from __future__ import annotations

from dataclasses import dataclass

_TICK, _BASE_TICK, _EVENTS = 2, 3, 5
_FRAME_KEY = 0x12
_EVENT_ID_KEY = 0x08
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class FrameMalformed(Exception):
    """Bytes that are no fields of a Frame: the node speaks something else."""


def varint(number: int) -> bytes:
    """The protobuf varint of a number ≥ 0."""
    if number < 0x80:
        return b"%c" % number
    if number < 0x4000:
        return b"%c%c" % (number & 0x7F | 0x80, number >> 7)
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def as_message(body: bytes) -> bytes:
    """The serialized JoinResponse around an encoded Frame."""
    size = len(body)
    return (_HEADS[size] if size < len(_HEADS) else b"\x12" + varint(size)) + body


def of_message(message: bytes) -> bytes:
    """The encoded Frame in a JoinResponse that `as_message` made; FrameMalformed for another."""
    try:
        size, at = _read_varint(message, 1)
    except IndexError as problem:
        raise FrameMalformed("cut short") from problem
    if message[0] != _FRAME_KEY or at + size != len(message):
        raise FrameMalformed("no frame")
    return message[at:]


_HEADS = tuple(b"\x12" + varint(size) for size in range(1024))
"""What stands before frames of usual sizes."""


def is_keyframe(body: bytes) -> bool:
    """Whether an encoded Frame is a keyframe; FrameMalformed when it cannot be read."""
    return look(body).base_tick == 0


@dataclass(frozen=True, slots=True)
class Look:
    """What a gateway may want to know of an encoded Frame."""

    tick: int
    base_tick: int
    """0 for a keyframe."""
    events: tuple[bytes, ...]
    """Its events, each an encoded field of a Frame."""


def look(body: bytes) -> Look:
    """Read an encoded Frame without its sections; FrameMalformed when it cannot be read."""
    numbers = {_TICK: 0, _BASE_TICK: 0}
    events: list[bytes] = []
    at = 0
    try:
        while at < len(body):
            begin = at
            key, at = _read_varint(body, at)
            kind = key & 7
            if kind == _VARINT:
                numbers[key >> 3], at = _read_varint(body, at)
            elif kind == _BYTES:
                size, at = _read_varint(body, at)
                at += size
                if key >> 3 == _EVENTS:
                    events.append(body[begin:at])
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
            else:
                raise FrameMalformed(f"wire type {kind}")
    except IndexError as problem:
        raise FrameMalformed("cut short") from problem
    return Look(numbers[_TICK], numbers[_BASE_TICK], tuple(events))


def event_id(event: bytes) -> int:
    """The id of one of `Look.events`; FrameMalformed when it cannot be read."""
    try:
        _, at = _read_varint(event, 1)
        key, at = _read_varint(event, at)
        return _read_varint(event, at)[0] if key == _EVENT_ID_KEY else 0
    except IndexError as problem:
        raise FrameMalformed("cut short") from problem


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
