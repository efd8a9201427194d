"""The grid that CELL tables are cut into: squares as large as the view, numbered row by row.

A seat sees a cell when any point of it is within the radius of the seat's own place, and keeps it
until none is within 1.15 times that, so that a player on an edge does not make cells come and go.
"""

import math
from typing import Final

import numpy as np

from rallypoint.games.columns import Column, Table
from rallypoint.games.schema import Array

KEEP: Final = 1.15
"""How far a cell may be, in radii, before it is out of sight again."""
MAX_CELLS: Final = 1 << 16
REACH: Final = 2
"""Cells to each side that may be in sight: KEEP needs more than one."""


class _Axis:
    """One direction of the grid."""

    def __init__(self, column: Column, size: float) -> None:
        if column.low is None or column.high is None:
            raise ValueError(
                f"{column.name} needs bounds, as q16(0, 1000) has, to be cut into cells"
            )
        self.low, self.high, self.size = float(column.low), float(column.high), size
        self.count = max(1, math.ceil((self.high - self.low) / size))

    def inside(self, values: Array) -> Array:
        """The places within the bounds; NaN is at the lower one."""
        return np.fmin(np.fmax(values, self.low), self.high)

    def index(self, places: Array) -> Array:
        """Which cell each place is in."""
        index = ((places - self.low) / self.size).astype(np.int64)
        return np.minimum(index, self.count - 1)

    def around(self, places: Array) -> tuple[Array, Array]:
        """The cells within reach, by place, and how far each is; infinitely far beyond the grid."""
        cells = self.index(places)[:, None] + np.arange(-REACH, REACH + 1)
        low = self.low + cells * self.size
        here = places[:, None]
        far = np.maximum(np.maximum(low - here, here - (low + self.size)), 0.0)
        return cells, np.where((cells < 0) | (cells >= self.count), np.inf, far)


class Grid:
    """Cells of the size `radius` between the bounds of two columns."""

    def __init__(self, x: Column, y: Column, radius: float) -> None:
        if not radius > 0:
            raise ValueError("a view needs a radius above 0")
        self.radius = radius
        self._x, self._y = _Axis(x, radius), _Axis(y, radius)
        self.cells = self._x.count * self._y.count
        if self.cells > MAX_CELLS:
            raise ValueError(
                f"a radius of {radius} makes {self.cells} cells, more than {MAX_CELLS}"
            )

    def cell(self, x: Array, y: Array) -> Array:
        """The number of the cell of each place."""
        rows = self._y.index(self._y.inside(y))
        return rows * self._x.count + self._x.index(self._x.inside(x))

    def in_reach(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """All cells that a place may keep in sight: which place, which cell, how far squared.

        Ordered by place, then by cell.
        """
        columns, across = self._x.around(self._x.inside(x))
        rows, along = self._y.around(self._y.inside(y))
        far = along[:, :, None] ** 2 + across[:, None, :] ** 2
        numbers = rows[:, :, None] * self._x.count + columns[:, None, :]
        place, down, right = np.nonzero(far <= (KEEP * self.radius) ** 2)
        return place, numbers[place, down, right], far[place, down, right]


def of(table: type[Table]) -> Grid:
    """The grid of a table with cells; ValueError when its columns or its radius make none."""
    cells = table.cells
    if cells is None:
        raise ValueError(f"{table.wire_name} has no cells")
    columns = {column.name: column for column in table.columns}
    return Grid(columns[cells.x], columns[cells.y], cells.radius)


def places(table: type[Table], bound: Table) -> tuple[Array, Array]:
    """The columns of a table with cells that place its rows."""
    cells = table.cells
    if cells is None:
        raise ValueError(f"{table.wire_name} has no cells")
    return bound.arrays[cells.x], bound.arrays[cells.y]
