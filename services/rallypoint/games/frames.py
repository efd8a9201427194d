"""Frames of a table of rooms: heads, sections and events as encoded `rallypoint.v1.Frame` fields.

A frame is a concatenation of encoded fields, so what is shared by clients is encoded once: `deltas`
for those in step, `keyframes` for those that are fresh, and `views` has what seats, teams and cells
see apart. Events are repeated in keyframes for two seconds (docs/wire.md §5).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rallypoint.games import cell_views, overview, sections
from rallypoint.games.arena import Arena
from rallypoint.games.definition import Definition
from rallypoint.games.encoder import EncoderTable
from rallypoint.games.room import Emitted, Seat
from rallypoint.games.schema import Visibility
from rallypoint.games.teams import TeamRows
from rallypoint.games.varints import varint
from rallypoint.games.views import OwnerRows, Source, View, Watch

REPEATED_S: Final = 2.0
EPOCH_TAG: Final = b"\x08"
TICK_TAG: Final = b"\x10"
BASE_TICK_TAG: Final = b"\x18"
EVENT_TAG: Final = b"\x2a"


@dataclass(slots=True)
class _Log:
    """A room's events: those not yet published, and those of the last two seconds."""

    next_id: int = 1
    fresh: list[bytes] = field(default_factory=list)
    recent: deque[tuple[int, bytes]] = field(default_factory=deque)


class FrameWriter:
    """Writes the frames of up to `rooms` rooms; `slot` is a room's place in the arena."""

    def __init__(self, definition: Definition, arena: Arena) -> None:
        self._repeated_ticks = int(REPEATED_S * definition.info.tick_hz)
        shared = _tables(definition, arena, Visibility.SHARED)
        self._shared = sections.make(shared, arena.rooms)
        self._teams = _team_rows(definition, arena)
        self._sources = _sources(definition, arena, self._teams)
        self.overview = overview.make(definition, arena)
        """What recordings have besides, of the state of the last `deltas`."""
        self._logs = [_Log() for _ in range(arena.rooms)]
        self._epochs = [b""] * arena.rooms
        self._ahead: dict[int, int] = {}
        self._eventful: set[int] = set()
        self._sizes = [0] * arena.rooms
        self._base_tick = 0
        self._tick = 0

    @property
    def has_views(self) -> bool:
        """Whether clients of a room see different things."""
        return bool(self._sources)

    def open(self, slot: int, epoch: int, seats: Sequence[Seat], *, ahead: int = 0) -> None:
        """Begin a room that nobody has seen; its ticks are `ahead` of the table's."""
        self._logs[slot] = _Log()
        self._epochs[slot] = EPOCH_TAG + varint(epoch)
        self._ahead.pop(slot, None)
        if ahead:
            self._ahead[slot] = ahead
        self._eventful.discard(slot)
        self._shared.forget(slice(slot, slot + 1))
        for source in self._sources:
            source.forget(slot)
        for seat in seats:
            self.seat(slot, seat)

    def seat(self, slot: int, seat: Seat) -> None:
        """Somebody has the seat from now on."""
        if self._teams is not None:
            self._teams.seat(slot, seat.slot, seat.team)

    def emit(self, slot: int, tick: int, events: Sequence[Emitted]) -> None:
        """Number events and keep them for the next frame."""
        log = self._logs[slot]
        self._eventful.add(slot)
        oldest = tick - self._repeated_ticks
        while log.recent and log.recent[0][0] < oldest:
            log.recent.popleft()
        for event in events:
            data = encoded_event(log.next_id, event)
            log.next_id += 1
            log.fresh.append(data)
            log.recent.append((tick, data))

    def deltas(self, rooms: int, tick: int) -> list[bytes]:
        """The frames of the first `rooms` rooms against those of the call before."""
        self._base_tick, self._tick = self._tick, tick
        ticks = self._delta_head(0)
        frames = self._shared.frames(rooms, self._epochs, ticks)
        for source in self._sources:
            source.publish(rooms)
        for slot, ahead in self._ahead.items():
            if slot < rooms:
                epoch, whole = self._epochs[slot], frames[slot]
                frames[slot] = epoch + self._delta_head(ahead) + whole[len(epoch) + len(ticks) :]
        for slot in sorted(slot for slot in self._eventful if slot < rooms):
            log = self._logs[slot]
            frames[slot] += b"".join(log.fresh)
            log.fresh.clear()
            self._eventful.discard(slot)
        if self._sources:
            self._sizes[: len(frames)] = map(len, frames)
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
            ticks = TICK_TAG + varint(self._tick + self._ahead.get(slot, 0))
            frames.append(self._epochs[slot] + ticks + section + events)
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

    def views(self, watches: Sequence[Watch]) -> list[View]:
        """What the seats of some rooms see apart, as of the last `deltas`."""
        views = [
            View([], {seat: [] for seat in watch.seats}, self._sizes[watch.slot])
            for watch in watches
        ]
        for source in self._sources:
            source.add(watches, views)
        return views


def encoded_event(number: int, event: Emitted) -> bytes:
    """One `events` field of a Frame: Event{id, type, body}."""
    body = b"\x08" + varint(number) + b"\x10" + varint(event.kind)
    if event.body:
        body += b"\x1a" + varint(len(event.body)) + event.body
    return EVENT_TAG + varint(len(body)) + body


def _team_rows(definition: Definition, arena: Arena) -> TeamRows | None:
    by_name = {layout.table.wire_name: layout.table for layout in definition.layouts}
    found = [
        (spec, by_name[spec.name])
        for spec in definition.schema.tables
        if spec.visibility is Visibility.TEAM
    ]
    return TeamRows(found, arena, definition.seats) if found else None


def _sources(definition: Definition, arena: Arena, teams: TeamRows | None) -> list[Source]:
    sources: list[Source] = []
    owner = _tables(definition, arena, Visibility.OWNER)
    if owner:
        encoder = sections.make(owner, arena.rooms * definition.seats)
        sources.append(OwnerRows(encoder, definition.seats))
    if teams is not None:
        sources.append(teams)
    cells = cell_views.make(definition, arena)
    if cells is not None:
        sources.append(cells)  # the last one, as it fills what the others leave
    return sources


def _tables(definition: Definition, arena: Arena, who: Visibility) -> list[EncoderTable]:
    by_name = {layout.table.wire_name: layout.table for layout in definition.layouts}
    return [
        (spec, arena.runs[by_name[spec.name]])
        for spec in definition.schema.tables
        if spec.visibility is who
    ]
