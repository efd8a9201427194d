"""What a recording tells, chunk by chunk; and how it is fetched and kept (docs/replay.md).

    take(chunk) ▸ Mark | Step | Word, in the order in which it happened

The tables are those of the newest Step while it is looked at. A chunk is whole by itself, so one
may begin anywhere; a chunk of a lower epoch, or one that was taken already, tells nothing.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from rallypoint.client import channel as channels
from rallypoint.client import seat
from rallypoint.client.session import Session
from rallypoint.games import codec, schema
from rallypoint.games.varints import varint
from rallypoint.kit import errors
from rallypoint.v1 import admin_pb2, replay_pb2, room_pb2

SERVICE = "/rallypoint.v1.ReplayService"
ADMIN = "/rallypoint.v1.AdminService"
FILE_HEAD: Final = b"rallypoint replay 1\n"


class Marked(enum.Enum):
    """What a viewer should be told besides the play itself."""

    GAP = "gap"
    """Something was not recorded, or lost."""
    MOVED = "moved"
    """The room went on at another node."""
    RECOVERED = "recovered"
    """The room's node died; the room went on from its last snapshot."""
    FULL = "full"
    """Nothing more is recorded but the end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something about the recording; `at_s` is where on its time line."""

    kind: Marked
    at_s: float
    lost_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """The tables are now those of `tick`; `events` are new ones only."""

    tick: int
    at_s: float
    events: tuple[room_pb2.Event, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """What everybody was told: a message, a new seat, the end."""

    control: room_pb2.Control
    at_s: float


Moment = Mark | Step | Word


class Playback:
    """Follows the chunks of one room."""

    def __init__(self) -> None:
        self.head: replay_pb2.ReplayHead | None = None
        self.epoch = 0
        self.tick = 0
        self.ended = False
        self._decoder: codec.Decoder | None = None
        self._schema: room_pb2.Schema | None = None
        self._number = -1
        self._zero_s: float | None = None
        self._end_s = 0.0
        self._last_event = 0

    @property
    def tables(self) -> Mapping[str, Mapping[str, schema.Array]]:
        """The wire numbers of all tables, by table and column."""
        return {} if self._decoder is None else self._decoder.tables

    def values(self, table: str) -> dict[str, schema.Array]:
        """A table's columns with their meaning, one value per row."""
        return {} if self._decoder is None else self._decoder.values(table)

    def take(self, chunk: replay_pb2.ReplayChunk) -> Iterator[Moment]:
        """What the next chunk tells. WireError when it makes no sense."""
        known = (self.epoch, self._number)
        if (chunk.epoch, chunk.number) <= known:
            return
        self._learn(chunk.head)
        began_s = chunk.begin_time.ToNanoseconds() / 1e9
        self._zero_s = began_s if self._zero_s is None else self._zero_s
        at_s = max(self._end_s, began_s - self._zero_s)
        yield from self._marks(chunk, known, at_s)
        self.epoch, self._number = chunk.epoch, chunk.number
        yield from self._entries(chunk, at_s)
        self.ended |= chunk.last
        if chunk.full:
            yield Mark(Marked.FULL, self._end_s)

    def _learn(self, head: replay_pb2.ReplayHead) -> None:
        self.head = head
        if self._schema != head.schema:
            self._schema = head.schema
            self._decoder = codec.Decoder(seat.schema_of(head.schema))

    def _marks(
        self, chunk: replay_pb2.ReplayChunk, known: tuple[int, int], at_s: float
    ) -> Iterator[Mark]:
        epoch, number = known
        if number < 0:
            return
        follows = chunk.number == (number + 1 if chunk.epoch == epoch else 0)
        lost_s = max(0.0, at_s - self._end_s)
        if chunk.start == replay_pb2.REPLAY_START_RECOVERED:
            yield Mark(Marked.RECOVERED, at_s, lost_s)
        elif chunk.epoch != epoch:
            yield Mark(Marked.MOVED, at_s, lost_s)
        if not follows:
            yield Mark(Marked.GAP, at_s, lost_s)

    def _entries(self, chunk: replay_pb2.ReplayChunk, at_s: float) -> Iterator[Moment]:
        decoder, tick_s = self._decoder, 1.0 / max(1, chunk.head.tick_hz)
        assert decoder is not None
        now_s = at_s
        for entry in chunk.entries:
            if entry.HasField("control"):
                yield Word(entry.control, now_s)
                continue
            frame = entry.frame
            if frame.base_tick == 0:
                decoder.clear()
            for section in frame.sections:
                decoder.apply(section.table, section.data)
            self.tick = frame.tick
            now_s = at_s + max(0, frame.tick - chunk.first_tick) * tick_s
            yield Step(frame.tick, now_s, self._new_events(frame))
        self._end_s = now_s + tick_s

    def _new_events(self, frame: room_pb2.Frame) -> tuple[room_pb2.Event, ...]:
        found = tuple(event for event in frame.events if event.id > self._last_event)
        if found:
            self._last_event = found[-1].id
        return found


async def play(
    session: Session, room_id: str, *, from_tick: int = 0, speed: float = 0.0
) -> AsyncIterator[replay_pb2.ReplayChunk]:
    """The chunks of a match that the session's player played."""
    request = replay_pb2.PlayReplayRequest(room_id=room_id, from_tick=from_tick, speed=speed)
    answers = channels.messages(
        session.channel, f"{SERVICE}/PlayReplay", request,
        answer=replay_pb2.PlayReplayResponse, token=await session.token(),
    )  # fmt: skip
    async for answer in answers:
        if answer.HasField("chunk"):
            yield answer.chunk


async def spectate(session: Session, room_id: str) -> AsyncIterator[replay_pb2.ReplayChunk]:
    """The chunks of a room that runs, with its delay, until it ends."""
    answers = channels.messages(
        session.channel, f"{SERVICE}/SpectateRoom",
        replay_pb2.SpectateRoomRequest(room_id=room_id),
        answer=replay_pb2.SpectateRoomResponse, token=await session.token(),
    )  # fmt: skip
    async for answer in answers:
        if answer.HasField("chunk"):
            yield answer.chunk


async def watch(
    channel: channels.Channel,
    secret: str,
    room_id: str,
    *,
    from_tick: int = 0,
    speed: float = 0.0,
) -> AsyncIterator[replay_pb2.ReplayChunk]:
    """The chunks of any match, for operators."""
    request = admin_pb2.WatchReplayRequest(room_id=room_id, from_tick=from_tick, speed=speed)
    answers = channels.messages(
        channel, f"{ADMIN}/WatchReplay", request,
        answer=admin_pb2.WatchReplayResponse, token=secret,
    )  # fmt: skip
    async for answer in answers:
        if answer.HasField("chunk"):
            yield answer.chunk


def write_file(path: Path, chunks: Iterable[replay_pb2.ReplayChunk]) -> int:
    """Keep chunks: a line that says what it is, then each with its length before it; the size."""
    encoded = [chunk.SerializeToString() for chunk in chunks]
    return path.write_bytes(FILE_HEAD + b"".join(varint(len(data)) + data for data in encoded))


def read_file(path: Path) -> Iterator[replay_pb2.ReplayChunk]:
    """The chunks of a file; InvalidArgument REPLAY_MALFORMED for one that is none."""
    data = path.read_bytes()
    at = len(FILE_HEAD)
    try:
        if not data.startswith(FILE_HEAD):
            raise ValueError("it does not begin as a replay")
        while at < len(data):
            size, shift = 0, 0
            while data[at] & 0x80:
                size, shift, at = size | (data[at] & 0x7F) << shift, shift + 7, at + 1
            size, at = size | data[at] << shift, at + 1
            if at + size > len(data):
                raise ValueError("it ends too early")
            yield replay_pb2.ReplayChunk.FromString(data[at : at + size])
            at += size
    except (DecodeError, ValueError, IndexError) as error:
        raise errors.InvalidArgument("REPLAY_MALFORMED", f"{path}: {error}") from error
