"""The pool of searching tickets as columns: one row per ticket, one array per property.

Rows are reused through a free list; `Pool.view` hands the matcher dense copies of the live rows.
What rules will read later has its column now: `size` (a party counts as several players), `region`
and `regions` (home region and the bit mask of those allowed), `partition` (equality rules: mode,
client version). Skills are displayed points, times unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from rallypoint.matchmaking.domain.entry import Entry, PoolStatistics

FloatColumn = npt.NDArray[np.float64]
IntColumn = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Dense columns of equal length n; index = row of this view."""

    skill: FloatColumn
    """Displayed points."""
    search_start: FloatColumn
    """Unix seconds; kept over requeues, so that a returned ticket is first in line."""
    priority: FloatColumn
    """Seconds of waiting granted on top."""
    size: npt.NDArray[np.uint8]
    """Players of the ticket; 1 until parties come."""
    region: npt.NDArray[np.uint8]
    """Home region, 0 to 63."""
    regions: npt.NDArray[np.uint64]
    """Bit mask of the regions allowed, the home region included."""
    partition: npt.NDArray[np.uint16]
    """Tickets of different partitions never meet."""

    def __len__(self) -> int:
        return len(self.skill)


_TYPES = {
    "skill": np.float64,
    "search_start": np.float64,
    "priority": np.float64,
    "size": np.uint8,
    "region": np.uint8,
    "regions": np.uint64,
    "partition": np.uint16,
}


def empty(rows: int) -> Columns:
    """Columns of zeros."""
    return Columns(**{name: np.zeros(rows, kind) for name, kind in _TYPES.items()})


class Pool:
    """Tickets by row; adding and removing cost O(1)."""

    def __init__(self, capacity: int = 256) -> None:
        self._columns = empty(capacity)
        self._live = np.zeros(capacity, np.bool_)
        self._ids: list[str] = [""] * capacity
        self._rows: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, ticket_id: object) -> bool:
        return ticket_id in self._rows

    def add(self, entry: Entry) -> bool:
        """Put a ticket in; False if it was there already."""
        if entry.ticket_id in self._rows:
            return False
        if not self._free:
            self._grow()
        row = self._free.pop()
        for name in _TYPES:
            getattr(self._columns, name)[row] = getattr(entry, name)
        self._live[row] = True
        self._ids[row] = entry.ticket_id
        self._rows[entry.ticket_id] = row
        return True

    def remove(self, ticket_id: str) -> bool:
        """Take a ticket out; False if it was not there."""
        row = self._rows.pop(ticket_id, None)
        if row is None:
            return False
        self._live[row] = False
        self._ids[row] = ""
        self._free.append(row)
        return True

    def clear(self) -> None:
        """Take everything out."""
        for ticket_id in list(self._rows):
            self.remove(ticket_id)

    def view(self) -> tuple[Columns, IntColumn]:
        """Dense copies of the live rows, and for each the row that `ticket_id` understands."""
        rows = np.flatnonzero(self._live)
        dense = {field.name: getattr(self._columns, field.name)[rows] for field in fields(Columns)}
        return Columns(**dense), rows

    def ticket_id(self, row: int) -> str:
        """The ticket in a row."""
        return self._ids[row]

    def positions(self) -> dict[str, int]:
        """Place in line by ticket, from 1, oldest first."""
        columns, rows = self.view()
        order = np.argsort(columns.search_start - columns.priority, kind="stable")
        return {self._ids[row]: place for place, row in enumerate(rows[order].tolist(), start=1)}

    def statistics(self) -> PoolStatistics:
        """Size and age."""
        starts = self._columns.search_start[self._live]
        oldest = float(starts.min()) if len(starts) else None
        return PoolStatistics(len(self._rows), len(self._ids), oldest)

    def _grow(self) -> None:
        old = len(self._ids)
        grown = empty(2 * old)
        for name in _TYPES:
            getattr(grown, name)[:old] = getattr(self._columns, name)
        self._columns = grown
        self._live = np.concatenate((self._live, np.zeros(old, np.bool_)))
        self._ids.extend([""] * old)
        self._free.extend(range(2 * old - 1, old - 1, -1))
