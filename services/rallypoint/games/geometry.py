"""Geometry of many rooms at once, for the tick of a `ColumnGame`.

A few questions that real-time games ask of everything that moves, each answered in one call: in C
where that was compiled, with numpy elsewhere, by the same arithmetic and so with the same bits on
all servers. Positions are float64; those of a table are shaped (rooms, rows), as columns are. What
is not contiguous in memory, such as a part of a table's rows, takes the way of numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rallypoint.games.schema import Array
from rallypoint.games.sections import PURE

if TYPE_CHECKING:
    from rallypoint.games import _geometry

try:
    if PURE:
        raise ImportError("not wanted")
    from rallypoint.games import _geometry
except ImportError:
    COMPILED = False
else:
    COMPILED = True


class Circles:
    """Round things that stand still: (x, y, radius) each. `wider` makes all of them so."""

    def __init__(
        self, circles: Sequence[tuple[float, float, float]], *, wider: float = 0.0
    ) -> None:
        # One circle per row: the last axis is the loop that numpy runs in C, and should be long.
        self._x = np.array([[x] for x, _, _ in circles])
        self._y = np.array([[y] for _, y, _ in circles])
        self._reach = np.array([[radius] for _, _, radius in circles]) + wider

    def push_out(self, x: Array, y: Array) -> None:
        """Put who is within a circle at its edge, in place. Circles should stand apart."""
        if not (COMPILED and _geometry.push_out(x, y, self._x, self._y, self._reach)):
            x[...], y[...] = self._pushed(x, y)

    def inside(self, x: Array, y: Array) -> Array:
        """Whether each point is within any circle; of shape (points,)."""
        out = np.empty(len(x), np.bool_)
        if not (COMPILED and _geometry.inside(x, y, self._x, self._y, self._reach, out)):
            ex, ey = x - self._x, y - self._y
            near = ex * ex + ey * ey < self._reach * self._reach
            np.logical_or.reduce(near, axis=0, out=out)
        return out

    def _pushed(self, x: Array, y: Array) -> tuple[Array, Array]:
        shape, x, y = x.shape, x.reshape(-1), y.reshape(-1)
        ex, ey = x - self._x, y - self._y
        d2 = ex * ex + ey * ey
        near = d2 < self._reach * self._reach
        if np.count_nonzero(near):
            at = met, who = np.nonzero(near)
            factor = self._reach[met, 0] / np.sqrt(d2[at])
            x[who] = self._x[met, 0] + ex[at] * factor
            y[who] = self._y[met, 0] + ey[at] * factor
        return x.reshape(shape), y.reshape(shape)


@dataclass(frozen=True, slots=True)
class Steps:
    """Straight steps of one length: in which room, whose, from where, and how far. Shape (steps,).

    `owner` is the row that a step cannot meet, or -1.
    """

    room: Array
    owner: Array
    x: Array
    y: Array
    dx: Array
    dy: Array
    length: float

    def first_met(self, x: Array, y: Array, there: Array, *, radius: float) -> Array:
        """The row of its room that each step meets first, of those `there` (bytes), or -1."""
        reach2, length2 = radius * radius, self.length * self.length
        out = np.empty(len(self.room), np.int64)
        if COMPILED and _geometry.first_met(
            x, y, there, self.room, self.owner, self.x, self.y, self.dx, self.dy,
            out, x.shape[1], reach2, length2,
        ):  # fmt: skip
            return out
        return self._first_met(x, y, there, (reach2, length2))

    def _first_met(self, x: Array, y: Array, there: Array, squares: tuple[float, float]) -> Array:
        reach2, length2 = squares
        # Shaped (rows, steps), the longer axis last.
        to_x = x.T.take(self.room, axis=1) - self.x
        to_y = y.T.take(self.room, axis=1) - self.y
        along = (to_x * self.dx + to_y * self.dy) / length2
        along = np.minimum(np.maximum(along, 0.0), 1.0)
        off_x, off_y = to_x - along * self.dx, to_y - along * self.dy
        near = off_x * off_x + off_y * off_y < reach2
        near &= there.T.take(self.room, axis=1) != 0
        owned = np.flatnonzero(self.owner >= 0)
        near[self.owner[owned], owned] = False
        first = np.where(near, along, 2.0).argmin(axis=0)
        return np.where(np.logical_or.reduce(near, axis=0), first, -1)


def touching(
    one: tuple[Array, Array], other: tuple[Array, Array], *, radius: float
) -> list[tuple[int, int, int]]:
    """Who of one table is within a radius of what of another: (room, row, other row), in order."""
    x, y = one
    other_x, other_y = other
    if COMPILED:
        rows, others = x.shape[1], other_x.shape[1]
        found = _geometry.touching(x, y, other_x, other_y, rows, others, radius * radius)
        if found is not False:
            return found
    # Shaped (rows, other rows, rooms): rooms last, as there are most of them.
    ex = x.T.copy()[:, None] - other_x.T.copy()
    ey = y.T.copy()[:, None] - other_y.T.copy()
    near = ex * ex + ey * ey < radius * radius
    if not np.count_nonzero(near):
        return []
    return [(room, row, at) for room, row, at in np.argwhere(near.transpose(2, 0, 1)).tolist()]
