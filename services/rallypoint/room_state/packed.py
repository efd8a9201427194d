"""A room at one moment as it is stored: an encoded `RoomSnapshot`, in parts.

The head seldom changes (who sits where) and is kept from one snapshot to the next. The engine comes
as two fields of which protobuf makes one: what changes only when something happens, so that rooms
in which nothing did are known by comparing bytes, and what changes with time alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rallypoint.games.varints import varint
from rallypoint.internal.v1 import snapshot_pb2
from rallypoint.room_state import captured, packing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rallypoint.games.engine import RoomTable
    from rallypoint.games.saved import SavedRoom
    from rallypoint.room_state.captured import Captured
    from rallypoint.room_state.domain.replies import SavedReplies
    from rallypoint.room_state.domain.seats import SavedBook
    from rallypoint.room_state.hosted import HostedRoom, RoomIdentity

TAKEN_AT_TAG: Final = b"\x42"
ENGINE_TAG: Final = b"\x52"
EVENTS_TAG: Final = b"\x42"
once = packing.once


class Head(NamedTuple):
    """Everything but the engine and the time."""

    identity: RoomIdentity
    book: SavedBook
    replies: Mapping[int, SavedReplies]
    data: bytes

    def fits(
        self, identity: RoomIdentity, book: SavedBook, replies: Mapping[int, SavedReplies]
    ) -> bool:
        """Whether it is that of this moment too."""
        same = self.book is book or self.book == book
        return same and self.identity is identity and self.replies == replies

    def timeless(self) -> tuple[Any, ...]:
        """What tells it from another one, but for time."""
        seats = tuple(replace(seat, kept_s=None) for seat in self.book.seats)
        return replace(self.book, seats=seats), self.replies


class Packed(NamedTuple):
    """One room at one moment; `at` is unix time in seconds, `copy` counts the copies of a room."""

    head: Head
    settled: bytes
    timed: bytes
    at: float
    copy: int

    def differs(self, other: Packed) -> bool:
        """Whether anything but the time is not the same."""
        if self.settled != other.settled:
            return True
        return self.head is not other.head and self.head.timeless() != other.head.timeless()

    def to_bytes(self) -> bytes:
        """What is stored."""
        seconds = int(self.at)
        nanos = int((self.at - seconds) * 1e9)
        taken_at = b"\x08%b\x10%b" % (once(seconds), once(nanos))
        return b"%b%b%c%b%b%b%b%b%b%b" % (
            self.head.data,
            TAKEN_AT_TAG, len(taken_at), taken_at,
            ENGINE_TAG, varint(len(self.settled)), self.settled,
            ENGINE_TAG, varint(len(self.timed)), self.timed,
        )  # fmt: skip


def of(item: Captured) -> Packed:
    """A captured room packed."""
    engine = item.engine
    return Packed(
        _head(item.identity, item.book, item.replies),
        _settled(engine, packing.encoded(engine.columns, engine.inputs)),
        _timed(engine),
        item.at,
        item.copy,
    )


def take(
    rooms: Sequence[HostedRoom],
    table: RoomTable,
    packer: packing.Packer,
    *,
    now: float,
    at: float,
) -> Iterator[Packed | Exception]:
    """Copy rooms of a table, each as it is or the error, mostly its game's, that forbids it.

    `now` is the loop's clock. Costs little, so that the table's task may do it.
    """
    bodies = packer.pack([room.slot for room in rooms])
    for room, body in zip(rooms, bodies, strict=True):
        try:
            engine = table.loose(room.slot)
            head, settled, timed = _head_of(room, now), _settled(engine, body), _timed(engine)
        except Exception as error:
            yield error
            continue
        room.copies += 1
        yield Packed(head, settled, timed, at, room.copies)


def _head_of(room: HostedRoom, now: float) -> Head:
    """The one that was stored last, if it still fits."""
    identity, book = room.identity, room.book.saved(now)
    replies = {slot: log.saved() for slot, log in room.replies.items()}
    if room.stored is not None and room.stored.head.fits(identity, book, replies):
        return room.stored.head
    return _head(identity, book, replies)


def _head(identity: RoomIdentity, book: SavedBook, replies: Mapping[int, SavedReplies]) -> Head:
    message = captured.head(identity, book, replies)
    return Head(identity, book, replies, message.SerializeToString())


def _settled(engine: SavedRoom, body: bytes) -> bytes:
    """`body` are columns and inputs."""
    data = b"\x0a%b%b%b\x38%b" % (
        varint(len(engine.layout)), engine.layout, body, varint(engine.next_event)
    )  # fmt: skip
    if engine.game:
        data += b"\x2a%b%b" % (varint(len(engine.game)), engine.game)
    if engine.locked or engine.metadata or engine.backfill:
        data += snapshot_pb2.EngineSnapshot(
            locked=engine.locked, metadata=dict(engine.metadata), backfill=engine.backfill
        ).SerializeToString()
    return data


def _timed(engine: SavedRoom) -> bytes:
    data = b"\x10%b\x18%b" % (once(engine.tick), once(engine.age))
    if engine.timers:
        timers = captured.timers(engine)
        data += snapshot_pb2.EngineSnapshot(timers=timers).SerializeToString()
    fields = [
        b"\x08%b\x12%b%b" % (varint(ago), varint(len(event)), event) for ago, event in engine.events
    ]
    return data + b"".join([b"%b%b%b" % (EVENTS_TAG, varint(len(each)), each) for each in fields])
