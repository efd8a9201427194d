"""What a ticket brings into the pool, and what a pool tells of itself. Free of numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A searching ticket; what the fields mean: `columns.Columns`."""

    ticket_id: str
    skill: float
    search_start: float
    priority: float = 0.0
    size: int = 1
    region: int = 0
    regions: int = 1
    partition: int = 0


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A glance at a pool."""

    tickets: int
    capacity: int
    oldest_search_start: float | None
