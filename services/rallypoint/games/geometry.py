"""Geometry of many rooms at once, for the tick of a `ColumnGame`.

A few things that real-time games do with everything that moves, each in one call: in C
where that was compiled, with numpy elsewhere, by the same arithmetic and so with the same bits on
all servers. Positions are float64; those of a table are shaped (rooms, rows), as columns are. What
is not contiguous in memory, such as a part of a table's rows, takes the way of numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
        self.arrays = self._x, self._y, self._reach

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


class Flight(NamedTuple):
    """Things that fly straight, arrays of shape (rooms, rows): where they are, how far a step goes,
    how many steps they have left (int32), and whether they live (bytes)."""

    x: Array
    y: Array
    step_x: Array
    step_y: Array
    left: Array
    live: Array


class Targets(NamedTuple):
    """What can be met, of shape (rooms, targets): where it is, and whether it is there (bytes)."""

    x: Array
    y: Array
    there: Array


class Ground:
    """Where things walk and fly: from `low` to `high`, both (x, y), and outside of circles."""

    def __init__(
        self,
        low: tuple[float, float],
        high: tuple[float, float],
        circles: Sequence[tuple[float, float, float]] = (),
        *,
        wider: float = 0.0,
    ) -> None:
        self._bounds = np.array([*low, *high])
        self._circles = Circles(circles, wider=wider)
        self._described = (self._bounds, *self._circles.arrays)

    def walk(
        self,
        place: tuple[Array, Array],
        way: tuple[Array, Array],
        moving: Array,
        *,
        full: float,
        step: float,
    ) -> None:
        """Move who is `moving` by one step, in place. `way` is how much of it, in the units of
        which `full` are a whole step in any direction; more counts as a whole one."""
        x, y = place
        if COMPILED and _geometry.walk(*self._described, x, y, *way, moving, full, step):
            return
        dx, dy = way[0] / full, way[1] / full
        over = np.maximum(np.sqrt(dx * dx + dy * dy), 1.0)
        low_x, low_y, high_x, high_y = self._bounds
        to_x = np.minimum(np.maximum(x + dx / over * step, low_x), high_x)
        to_y = np.minimum(np.maximum(y + dy / over * step, low_y), high_y)
        self._circles.push_out(to_x, to_y)
        np.copyto(x, to_x, where=moving)
        np.copyto(y, to_y, where=moving)

    def fly(
        self,
        flight: Flight,
        flying: Array,
        targets: Targets,
        *,
        each: int,
        radius: float,
        length: float,
    ) -> list[tuple[int, int, int]]:
        """Move what is `flying` by one step of that length, in place, and return who was met first
        within the radius: (room, row, target), in order.

        It is over, and lives no more, when it met one, is in a circle or out of bounds or has no
        step left. A target owns `each` rows, which never meet it; 0 for rows nobody owns.
        """
        reach2, length2 = radius * radius, length * length
        rows, count = flight.x.shape[1], targets.x.shape[1]
        if COMPILED:
            found = _geometry.fly(
                *self._described, *flight, flying, *targets, rows, count, each, reach2, length2
            )
            if found is not False:
                return found
        return self._fly(flight, np.nonzero(flying), targets, each, (radius, length))

    def _fly(
        self,
        flight: Flight,
        at: tuple[Array, ...],
        targets: Targets,
        each: int,
        sizes: tuple[float, float],
    ) -> list[tuple[int, int, int]]:
        (room, row), (radius, length) = at, sizes
        if not len(room):
            return []
        dx, dy = flight.step_x[at], flight.step_y[at]
        from_x, from_y, left = flight.x[at], flight.y[at], flight.left[at] - 1
        x, y = from_x + dx, from_y + dy
        flight.x[at], flight.y[at], flight.left[at] = x, y, left
        owner = row // each if each > 0 else np.full(len(row), -1)
        steps = Steps(room, owner, from_x, from_y, dx, dy, length)
        met = steps.first_met(*targets, radius=radius)
        low_x, low_y, high_x, high_y = self._bounds
        over = (met >= 0) | (left <= 0) | self._circles.inside(x, y)
        over |= (x < low_x) | (x > high_x) | (y < low_y) | (y > high_y)
        flight.live[room[over], row[over]] = 0
        hit = np.flatnonzero(met >= 0)
        return list(zip(*(each[hit].tolist() for each in (room, row, met)), strict=True))


def put_rows(at: Array, *columns: tuple[Array, Array]) -> None:
    """Set the rows `at` of flat columns, each given with its values, of the column's own type: one
    for each row, or one for all of them. Cheaper than an assignment for each column."""
    if not (COMPILED and _geometry.put_rows(at, columns)):
        for column, values in columns:
            column[at] = values


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
