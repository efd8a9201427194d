"""Frames of a table of rooms: heads, sections and events as encoded `rallypoint.v1.Frame` fields.

A frame is a concatenation of encoded fields, so what is shared by clients is encoded once: `deltas`
for those in step, `keyframes` for those that are fresh, and one part per seat where a game has
OWNER tables. Events are repeated in keyframes for two seconds (docs/wire.md §5).
"""

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rallypoint.games import sections
from rallypoint.games.arena import Arena
from rallypoint.games.definition import Definition
from rallypoint.games.encoder import EncoderTable
from rallypoint.games.room import Emitted
from rallypoint.games.schema import Visibility

REPEATED_S: Final = 2.0
EPOCH_TAG: Final = b"\x08"
TICK_TAG: Final = b"\x10"
BASE_TICK_TAG: Final = b"\x18"
EVENT_TAG: Final = b"\x2a"


@dataclass(slots=True)
class _Log:
    """A room's events: those not yet published, and those of the last two seconds."""

    epoch: bytes = b""
    ahead: int = 0
    next_id: int = 1
    fresh: list[bytes] = field(default_factory=list)
    recent: deque[tuple[int, bytes]] = field(default_factory=deque)


class FrameWriter:
    """Writes the frames of up to `rooms` rooms; `slot` is a room's place in the arena."""

    def __init__(self, definition: Definition, arena: Arena) -> None:
        self._seats = definition.seats
        self._repeated_ticks = int(REPEATED_S * definition.info.tick_hz)
        shared = _tables(definition, arena, Visibility.SHARED)
        owner = _tables(definition, arena, Visibility.OWNER)
        self._shared = sections.make(shared, arena.rooms)
        self._owner = sections.make(owner, arena.rooms * self._seats) if owner else None
        self._logs = [_Log() for _ in range(arena.rooms)]
        self._base_tick = 0
        self._tick = 0

    @property
    def has_owner_parts(self) -> bool:
        """Whether each seat gets a part of its own."""
        return self._owner is not None

    def open(self, slot: int, epoch: int, *, ahead: int = 0) -> None:
        """Begin a room that nobody has seen; its ticks are `ahead` of the table's."""
        self._logs[slot] = _Log(EPOCH_TAG + varint(epoch), ahead)
        self._shared.forget(slice(slot, slot + 1))
        if self._owner:
            self._owner.forget(slice(slot * self._seats, (slot + 1) * self._seats))

    def emit(self, slot: int, tick: int, events: Sequence[Emitted]) -> None:
        """Number events and keep them for the next frame."""
        log = self._logs[slot]
        for event in events:
            data = encoded_event(log.next_id, event)
            log.next_id += 1
            log.fresh.append(data)
            log.recent.append((tick, data))

    def deltas(self, rooms: int, tick: int) -> list[bytes]:
        """The frames of the first `rooms` rooms against those of the call before."""
        self._base_tick, self._tick = self._tick, tick
        heads = {0: self._delta_head(0)}
        sections = self._shared.deltas(rooms)
        frames = []
        for log, section in zip(self._logs, sections, strict=False):
            ticks = heads.get(log.ahead) or heads.setdefault(log.ahead, self._delta_head(log.ahead))
            frame = log.epoch + ticks + section
            if log.fresh:
                frame += b"".join(log.fresh)
                log.fresh.clear()
            frames.append(frame)
        return frames

    def keyframes(self, slots: Sequence[int]) -> list[bytes]:
        """The same state as the last `deltas`, against zeros."""
        oldest = self._tick - self._repeated_ticks
        frames = []
        for slot, section in zip(slots, self._shared.keyframes(slots), strict=True):
            log = self._logs[slot]
            while log.recent and log.recent[0][0] < oldest:
                log.recent.popleft()
            events = b"".join(data for _, data in log.recent)
            ticks = TICK_TAG + varint(self._tick + log.ahead)
            frames.append(log.epoch + ticks + section + events)
        return frames

    def saved_events(self, slot: int, tick: int) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        """The id of a room's next event, and those that keyframes repeat, with ticks ago."""
        log, oldest = self._logs[slot], tick - self._repeated_ticks
        return log.next_id, tuple((tick - at, data) for at, data in log.recent if at >= oldest)

    def restore_events(
        self, slot: int, tick: int, next_id: int, events: Sequence[tuple[int, bytes]]
    ) -> None:
        """Go on with what `saved_events` gave."""
        log = self._logs[slot]
        log.next_id = next_id
        log.recent.extend((tick - ago, data) for ago, data in events)

    def _delta_head(self, ahead: int) -> bytes:
        head = TICK_TAG + varint(self._tick + ahead)
        if self._base_tick:  # before a restored room's first frame it may have been below its own
            head += BASE_TICK_TAG + varint(max(1, self._base_tick + ahead))
        return head

    def owner_deltas(self, rooms: int) -> list[list[bytes]]:
        """For each of the first rooms, each seat's part of a delta; empty lists without any."""
        if self._owner is None:
            return [[] for _ in range(rooms)]
        parts = self._owner.deltas(rooms * self._seats)
        return [parts[first : first + self._seats] for first in range(0, len(parts), self._seats)]

    def owner_keyframe(self, slot: int) -> list[bytes]:
        """Each seat's part of a keyframe."""
        if self._owner is None:
            return []
        first = slot * self._seats
        return self._owner.keyframes(range(first, first + self._seats))


@functools.lru_cache(maxsize=4096)  # lengths come again and again
def varint(value: int) -> bytes:
    """Protobuf's base 128 number."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encoded_event(number: int, event: Emitted) -> bytes:
    """One `events` field of a Frame: Event{id, type, body}."""
    body = b"\x08" + varint(number) + b"\x10" + varint(event.kind)
    if event.body:
        body += b"\x1a" + varint(len(event.body)) + event.body
    return EVENT_TAG + varint(len(body)) + body


def _tables(definition: Definition, arena: Arena, who: Visibility) -> list[EncoderTable]:
    by_name = {layout.table.wire_name: layout.table for layout in definition.layouts}
    return [
        (spec, arena.runs[by_name[spec.name]])
        for spec in definition.schema.tables
        if spec.visibility is who
    ]
