"""Which cells of a CELL table each seat sees, what its client holds of them, and what comes next.

All seats of all rooms of a table at once: a pair is a seat and a cell in its sight, and pairs stand
in order, by seat and then by cell. A pair remembers the frame whose state the client holds; when
a client's budget is short, the nearer cells come first and the others wait, and the longer they
wait the more they weigh. A cell that waits is told later, as a difference to what the client holds
or, when that is too old, as a keyframe: nothing is lost.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rallypoint.games.cell_encoder import FRESH, HISTORY, CellEncoder
from rallypoint.games.schema import Array

NOTHING: Final = -1
"""As a frame: the client holds nothing of the cell."""
WEIGHTS: Final = (4.0, 2.0, 1.0)
"""What waiting for a frame adds: in the seat's own cell, within half the radius, beyond."""
SECTION_BYTES: Final = 16
"""About what a section has besides its rows."""


def _none() -> Array:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Sent:
    """Sections to send: which seat gets which cell, against the state how many frames ago."""

    seats: Array
    keys: Array
    ages: Array


@dataclass(slots=True)
class _Pairs:
    """Seats and cells: `ids` ascend, and are seat * cells + cell of the seat's room."""

    ids: Array = field(default_factory=_none)
    held: Array = field(default_factory=_none)
    waited: Array = field(default_factory=lambda: np.zeros(0))
    weights: Array = field(default_factory=lambda: np.zeros(0))


class Interest:
    """The pairs of one table. Seat s of room r has the number r * seats + s."""

    def __init__(self, encoder: CellEncoder, rooms: int, seats: int) -> None:
        self._encoder = encoder
        self._grid = encoder.grid
        self._seats = seats
        self._watching = np.zeros(rooms * seats, np.bool_)
        self._pairs = _Pairs()

    def look(self, watching: Array, fresh: Array, x: Array, y: Array) -> Sent:
        """Take in where the watching seats are, ascending; what their clients see no more.

        Seats that are not among them hold nothing from now on, nor do the fresh ones.
        """
        before, cells = self._pairs, self._grid.cells
        place, cell, far = self._grid.in_reach(x, y)
        ids = watching[place] * cells + cell
        at = np.minimum(np.searchsorted(before.ids, ids), max(0, len(before.ids) - 1))
        known = before.ids[at] == ids if len(before.ids) else np.zeros(len(ids), np.bool_)
        known &= ~fresh[place]
        seen = known | (far <= self._grid.radius**2)
        ids, at, known, far = ids[seen], at[seen], known[seen], far[seen]
        after = _Pairs(ids)
        after.held = np.full(len(ids), NOTHING, np.int64)
        after.held[known] = before.held[at[known]]
        after.waited = np.zeros(len(ids))
        after.waited[known] = before.waited[at[known]]
        after.weights = np.select(
            [far == 0, far <= (self._grid.radius / 2) ** 2], WEIGHTS[:2], WEIGHTS[2]
        )
        self._pairs = after
        return self._out_of_sight(before, at[known], watching[~fresh])

    def _out_of_sight(self, before: _Pairs, kept: Array, told: Array) -> Sent:
        """Cells that clients hold and do not see."""
        lost = before.held != NOTHING
        lost[kept] = False
        self._watching[...] = False
        self._watching[told] = True
        ids = before.ids[lost]
        ids = ids[self._watching[ids // self._grid.cells]]
        return self._sent(ids, np.full(len(ids), NOTHING, np.int64))

    def choose(self, tokens: Array) -> Sent:
        """What to send: as much as the seats' tokens, in bytes, allow. It counts as sent."""
        pairs, now = self._pairs, self._encoder.now
        keys = self._keys(pairs.ids)
        changed = self._encoder.changed_at[keys]
        counts = self._encoder.counts(keys)
        holds = pairs.held != NOTHING
        pairs.held[holds & (changed <= pairs.held)] = now
        ages = now - pairs.held
        ages[~holds | (ages > HISTORY)] = FRESH
        due = np.flatnonzero(np.where(holds, pairs.held < now, counts > 0))
        pairs.waited[due] += pairs.weights[due]
        size = counts[due] * self._encoder.row_bytes
        size = SECTION_BYTES + np.where(ages[due] == FRESH, size, size // 2)
        sent = due[_affordable(pairs.ids[due] // self._grid.cells, pairs.waited[due], size, tokens)]
        pairs.held[sent] = now
        pairs.waited[sent] = 0.0
        return self._sent(pairs.ids[sent], ages[sent])

    def _sent(self, ids: Array, ages: Array) -> Sent:
        return Sent(ids // self._grid.cells, self._keys(ids), ages)

    def _keys(self, ids: Array) -> Array:
        seat, cell = np.divmod(ids, self._grid.cells)
        return (seat // self._seats) * self._grid.cells + cell


def _affordable(seats: Array, waited: Array, sizes: Array, tokens: Array) -> Array:
    """Of sections with the seats that wait for them, ascending, those that tokens are left for.

    The heaviest come first, and the last one may overdraw.
    """
    order = np.lexsort((-waited, seats))
    sizes, seats = sizes[order], seats[order]
    spent = np.cumsum(sizes) - sizes
    first = np.searchsorted(seats, seats, "left")
    return np.sort(order[spent - spent[first] < tokens[seats]]) if len(seats) else order
