"""The frames of an AttachResponse, put together from bytes that exist already (docs/wire.md §7).

Building a protobuf object per room and tick would cost more than the tick; these are its encoded
fields, written by hand and checked against the generated class by a test.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from rallypoint.games.varints import varint

FRAMES_TAG: Final = b"\x12"
ROOM_ID_TAG: Final = b"\x0a"
EPOCH_TAG: Final = b"\x10"
TICK_TAG: Final = b"\x18"
PART_TAG: Final = b"\x22"
ROUTE_TAG: Final = b"\x2a"
CLIENTS_TAG: Final = b"\x0a"
PARTS_TAG: Final = b"\x12"
LATE_TAG: Final = b"\x50"
FIRST_APART: Final = 2
"""The part after the shared delta and keyframe."""

Frame = bytes | tuple[bytes, bytes, bytes, bytes]
"""One of AttachResponse.frames: encoded, or head, tick, its only part not encoded yet, route."""

Row = tuple[bytes, int, int, bytes]
"""What a gateway gets of a room from tick to tick: head, number of its tick, its slot, route."""


def head(room_id: str, epoch: int) -> bytes:
    """The fields of a RoomFrame that never change."""
    name = room_id.encode()
    return ROOM_ID_TAG + varint(len(name)) + name + EPOCH_TAG + varint(epoch)


def tick(number: int) -> bytes:
    """RoomFrame.tick."""
    return TICK_TAG + varint(number)


def late(seconds: float) -> bytes:
    """AttachResponse.late_us."""
    return LATE_TAG + varint(max(1, int(seconds * 1e6)))


def part(data: bytes) -> bytes:
    """One of RoomFrame.parts."""
    return PART_TAG + varint(len(data)) + data


def route(clients: Iterable[int], parts: Sequence[int]) -> bytes:
    """One of RoomFrame.routes."""
    body = _packed(CLIENTS_TAG, clients) + _packed(PARTS_TAG, parts)
    return ROUTE_TAG + varint(len(body)) + body


def route_apart(client: int, places: Iterable[int], *, fresh: bool) -> bytes:
    """A route for one client: the shared delta or keyframe, and of the parts after those two its
    own, by their places among these."""
    number = varint(client)
    parts = b"\x01" if fresh else b"\x00"
    parts += b"".join([_PLACES[place] for place in places])
    body = b"%b%b%b%b%b" % (
        CLIENTS_TAG, varint(len(number)), number, PARTS_TAG, varint(len(parts))
    ) + parts  # fmt: skip
    return b"%b%b%b" % (ROUTE_TAG, varint(len(body)), body)


def frame(*fields: bytes) -> bytes:
    """One of AttachResponse.frames."""
    body = b"".join(fields)
    return FRAMES_TAG + varint(len(body)) + body


def join(frames: Iterable[Frame]) -> bytes:
    """All of AttachResponse.frames."""
    return b"".join([sent if isinstance(sent, bytes) else _in_step(*sent) for sent in frames])


def join_rows(rows: Iterable[Row], ticks: Sequence[bytes], deltas: Sequence[bytes]) -> bytes:
    """The same for rooms whose clients are all in step: `ticks` and `deltas` by number and slot."""
    return b"".join(
        [_in_step(head, ticks[number], deltas[slot], route) for head, number, slot, route in rows]
    )


def _in_step(head: bytes, tick: bytes, delta: bytes, route: bytes) -> bytes:
    return frame(head, tick, part(delta), route)


def _packed(tag: bytes, numbers: Iterable[int]) -> bytes:
    data = b"".join(map(varint, numbers))
    return tag + varint(len(data)) + data


class _Places(dict[int, bytes]):
    """The encoded number of a part after the shared ones, by its place."""

    def __missing__(self, place: int) -> bytes:
        self[place] = encoded = varint(place + FIRST_APART)
        return encoded


_PLACES: Final = _Places()
