"""One room as values: what a snapshot holds of the engine, and what a room is made from again.

Columns are the bytes of all their numbers, hidden ones included, so they fit only a game that
declares the very same columns: `layout_hash` tells. Times count from the room's tick, so that the
room may go on in a table whose ticks have another number.
"""

import hashlib
from dataclasses import dataclass

from rallypoint.games.definition import Definition

LAYOUT_BYTES = 8
EVENT_GAP = 1 << 16
"""Event ids skipped by a room whose last second is lost: clients know some of those ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedInputs:
    """The inputs of one seat."""

    applied: int = 0
    """The seq of the newest applied."""
    newest: int = 0
    """The seq of the newest taken; what comes again is dropped."""
    waiting: tuple[tuple[int, bytes], ...] = ()
    """Taken and not yet applied, with their seqs."""
    current: bytes = b""
    """What the game sees now, and what is held; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRoom:
    """Everything the engine knows of a room but its options and seats."""

    layout: bytes
    tick: int
    age: int
    """Ticks since the room was made."""
    columns: bytes
    game: bytes
    """What the game's `on_snapshot` returned."""
    timers: tuple[tuple[int, str], ...]
    """Ticks from now, and the method."""
    next_event: int
    events: tuple[tuple[int, bytes], ...]
    """Those that keyframes repeat: ticks ago, and the encoded event."""
    inputs: tuple[SavedInputs, ...]
    """One per seat of the game, taken or not."""
    locked: bool = False
    metadata: tuple[tuple[str, str], ...] = ()
    backfill: int = 0


def layout_hash(definition: Definition) -> bytes:
    """What must be equal for a room of one version to go on in another."""
    lines = [definition.info.name, str(definition.info.tick_hz), definition.schema.text()]
    lines += [
        f"{layout.table.wire_name} {layout.rows} {column.name} {column.dtype.str}"
        for layout in definition.layouts
        for column in layout.table.columns
    ]
    return hashlib.sha256("\n".join(lines).encode()).digest()[:LAYOUT_BYTES]
