"""What is kept of a room for replays and spectators: chunks of about two seconds, off the tick.

A tape takes the bytes that all clients get, between two ticks, and only appends to a list. Each
chunk begins with a keyframe, and so is whole by itself: one that is lost is a gap and no more.
Only what everybody in the room may see is taken: SHARED tables, events, words to all; and CELL
tables as SHARED ones, unless a game keeps them. Rows of seats and teams are not (docs/replay.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.games import overview
from rallypoint.games.definition import Definition
from rallypoint.games.engine import RoomTable
from rallypoint.games.room import Seat
from rallypoint.games.varints import varint
from rallypoint.internal.v1 import allocation_pb2, events_pb2
from rallypoint.room_state import schema_proto
from rallypoint.v1 import replay_pb2, room_pb2

CHUNK_S: Final = 2.0
"""Half as long would cost twice as much: most of it is storing."""
CHUNK_BYTES: Final = 256 * 1024
"""A chunk ends early at this size: the broker takes messages of up to a megabyte."""
PHASES: Final = 16
RECORD_CHUNK_TAG: Final = b"\x0a"
RECORD_PLAYER_TAG: Final = b"\x12"
HEAD_TAG: Final = b"\x42"
ENTRY_TAG: Final = b"\x5a"
FRAME_TAG: Final = b"\x0a"
CONTROL_TAG: Final = b"\x12"


@dataclass(frozen=True, slots=True)
class Recording:
    """How a room is recorded."""

    max_bytes: int
    """Above it recording stops."""
    spectators: int = 0
    """Spectators let in at a time, at each gateway."""
    spectate_delay_ms: int = 0
    """How far behind the room they are."""

    @classmethod
    def of(cls, message: allocation_pb2.Recording) -> Recording:
        """As the room was asked for."""
        return cls(message.max_bytes, message.spectators, message.spectate_delay_ms)

    def message(self) -> allocation_pb2.Recording:
        """For a snapshot."""
        return allocation_pb2.Recording(
            max_bytes=self.max_bytes,
            spectators=self.spectators,
            spectate_delay_ms=self.spectate_delay_ms,
        )


class _Word(bytes):
    """An encoded Control among frames."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A chunk that is complete."""

    chunk: replay_pb2.ReplayChunk
    """Without head and entries."""
    head: bytes
    players: bytes
    entries: Sequence[bytes]
    """Frames, and words to all."""
    size: int
    facts: events_pb2.ReplayFacts
    """For lists."""

    def record(self) -> bytes:
        """The encoded ReplayRecord."""
        parts = [self.chunk.SerializeToString(), self.head]
        for entry in self.entries:
            tag = CONTROL_TAG if type(entry) is _Word else FRAME_TAG
            size = varint(len(entry))
            parts += (ENTRY_TAG, varint(1 + len(size) + len(entry)), tag, size, entry)
        chunk = b"".join(parts)
        return b"%b%b%b%b" % (RECORD_CHUNK_TAG, varint(len(chunk)), chunk, self.players)


class Sink(Protocol):
    """Takes chunks, without waiting."""

    def put(self, cut: Cut) -> None:
        """Store a chunk soon, or drop it."""

    def now(self) -> float:
        """Unix time in seconds."""


class Tape:
    """Records one room at one node. Belongs to the task of the room's table."""

    def __init__(
        self,
        definition: Definition,
        recording: Recording,
        sink: Sink,
        *,
        room_id: str,
        epoch: int,
        queue: str,
        created_s: int,
        start: replay_pb2.ReplayStart.ValueType,
        seats: Callable[[], Sequence[Seat]],
        phase: int,
    ) -> None:
        self._definition = definition
        self._recording = recording
        self._sink = sink
        self._room_id = room_id
        self._epoch = epoch
        self._queue = queue
        self._created_s = created_s
        self._start = start
        self._seats = seats
        self._frames_per_chunk = max(1, round(CHUNK_S * definition.send_hz))
        # The first one is shorter, so that not all rooms of a table are stored at once.
        self._first_chunk = 1 + self._frames_per_chunk * (phase % PHASES) // PHASES
        self._left = 0
        self._entries: list[bytes] = []
        self._size = 0
        self._begun = False
        self._first_tick = 0
        self._table_tick = 0
        self._ahead = 0
        self._began = 0.0
        self._number = 0
        self._total = 0
        self._known: tuple[Seat, ...] | None = None
        self._head = b""
        self._players: dict[str, None] = {}
        self._names = b""
        self._over = False

    @property
    def full(self) -> bool:
        """Whether as much was recorded as may be."""
        return self._total >= self._recording.max_bytes

    def take(self, table_tick: int, frame: bytes) -> bool:
        """Append a frame; True when a chunk has to begin with a keyframe of this tick instead."""
        if self._left and self._size < CHUNK_BYTES:  # little more than this is done in a tick
            self._left -= 1
            self._table_tick = table_tick
            self._size += len(frame)
            self._entries.append(frame)
            return False
        self.cut()
        return not (self._over or self.full)

    def begin(self, table_tick: int, tick: int, keyframe: bytes) -> None:
        """Begin a chunk; the room's own tick may be another than its table's."""
        self._left = (self._frames_per_chunk if self._number else self._first_chunk) - 1
        self._first_tick, self._table_tick = tick, table_tick
        self._ahead = tick - table_tick
        self._began = self._sink.now()
        self._begun = True
        self._entries.insert(0, keyframe)  # words may have come before it
        self._size += len(keyframe)

    def say(self, control: room_pb2.Control) -> None:
        """Record what everybody is told."""
        if not (self._over or self.full):
            self._add(control)

    def cut(self) -> None:
        """Hand over what there is; the next frame begins another chunk."""
        if self._begun:
            self._hand_over(last=False)

    def end(self, control: room_pb2.Control) -> None:
        """The room has ended, with this word to all."""
        if not self._over:
            self._add(control)
            self._began = self._began or self._sink.now()
            self._hand_over(last=True)
            self._over = True

    def _add(self, control: room_pb2.Control) -> None:
        self._entries.append(_Word(control.SerializeToString()))
        self._size += len(self._entries[-1])

    def _hand_over(self, *, last: bool) -> None:
        self._update_head()
        chunk = replay_pb2.ReplayChunk(
            room_id=self._room_id,
            epoch=self._epoch,
            number=self._number,
            start=replay_pb2.REPLAY_START_UNSPECIFIED if self._number else self._start,
            begin_time=_timestamp(self._began),
            first_tick=self._first_tick,
            last_tick=self._table_tick + self._ahead,
            full=self.full or self._total + self._size >= self._recording.max_bytes,
            last=last,
        )
        size = self._size + len(self._head) + len(self._names)
        facts = events_pb2.ReplayFacts(
            game=self._definition.info.name,
            queue=self._queue,
            created_s=self._created_s,
            at_s=self._sink.now(),
            players=len(self._players),
            ended=last,
        )
        self._sink.put(Cut(chunk, self._head, self._names, self._entries, size, facts))
        self._number += 1
        self._total += size
        self._entries, self._size, self._left, self._began = [], 0, 0, 0.0
        self._begun = False
        self._first_tick = chunk.last_tick

    def _update_head(self) -> None:
        seats = tuple(self._seats())
        if seats == self._known:
            return
        self._known = seats
        self._players |= dict.fromkeys(seat.player_id for seat in seats)
        self._names = b"".join(
            RECORD_PLAYER_TAG + varint(len(name)) + name
            for name in (player.encode() for player in self._players)
        )
        info, schema = self._definition.info, overview.schema_of(self._definition)
        head = replay_pb2.ReplayHead(
            game=info.name,
            queue=self._queue,
            schema=schema_proto.of(schema),
            tick_hz=info.tick_hz,
            send_hz=self._definition.send_hz,
            seats=[schema_proto.seat(seat) for seat in seats],
            cells=schema != self._definition.schema,
        ).SerializeToString()
        self._head = HEAD_TAG + varint(len(head)) + head


def roll(tapes: Mapping[int, Tape], table: RoomTable, deltas: Sequence[bytes]) -> None:
    """Record the frames of a tick: of the rooms by slot that have a tape."""
    tick, whole = table.tick, table.writer.overview
    if whole is not None:
        more = whole.deltas(len(deltas))
        deltas = [d + more[n] if n in tapes else d for n, d in enumerate(deltas)]
    due = [slot for slot, tape in tapes.items() if tape.take(tick, deltas[slot])]
    if not due:
        return
    keyframes = table.writer.keyframes(due)
    if whole is not None:
        more = whole.keyframes(due)
        keyframes = [shared + cells for shared, cells in zip(keyframes, more, strict=True)]
    for slot, keyframe in zip(due, keyframes, strict=True):
        tapes[slot].begin(tick, table.tick_of(slot), keyframe)


def _timestamp(seconds: float) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(int(seconds * 1e9))
    return found
