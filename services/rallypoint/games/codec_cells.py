"""A table of visibility CELL as a client holds it (docs/wire.md §3).

Cells are kept apart, since the server may update them at different ticks; `columns` shows of each
row what the newest section said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rallypoint.games.reader import Reader, WireError
from rallypoint.games.schema import Array, TableSpec

DELTA: Final = 0
KEYFRAME: Final = 1
GONE: Final = 2
NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class _Cell:
    """The rows of a cell, ascending, and their numbers: one array per column."""

    rows: Array
    numbers: list[Array] = field(default_factory=list)


class CellTable:
    """One table; `columns` are the arrays that it shows its rows in."""

    def __init__(self, spec: TableSpec, columns: Mapping[str, Array]) -> None:
        self._spec = spec
        self._columns = [columns[column.name] for column in spec.columns]
        self._cells: dict[int, _Cell] = {}
        self._shown_from = np.full(spec.rows, NOWHERE, np.int64)

    @property
    def cells(self) -> frozenset[int]:
        """The cells held."""
        return frozenset(self._cells)

    @property
    def rows(self) -> frozenset[int]:
        """The rows shown."""
        return frozenset(np.flatnonzero(self._shown_from != NOWHERE).tolist())

    def clear(self) -> None:
        """Hold no cell."""
        self._cells.clear()
        self._shown_from.fill(NOWHERE)
        for column in self._columns:
            column.fill(0)

    def apply(self, data: bytes) -> None:
        """Apply one section; nothing is changed unless all of it can be read."""
        reader = Reader(data)
        cell, mode = reader.varint(), reader.byte()
        held = self._cells.get(cell)
        if mode not in (DELTA, KEYFRAME, GONE):
            raise WireError(f"cells have no mode {mode}")
        if held is None and mode != KEYFRAME:
            raise WireError(f"cell {cell} is not held")
        if mode == GONE:
            reader.finish()
            self._hide(cell, self._cells.pop(cell).rows)
            return
        before = held if held is not None and mode == DELTA else self._empty()
        after, left = self._changed(reader, before)
        self._hide(cell, held.rows if held is not None and mode == KEYFRAME else left)
        self._show(cell, after)

    def _changed(self, reader: Reader, before: _Cell) -> tuple[_Cell, Array]:
        """The cell after the section, and the rows that left it."""
        left, came = reader.ids(self._spec.rows), reader.ids(self._spec.rows)
        stays = np.isin(before.rows, left, invert=True)
        if np.count_nonzero(stays) != len(before.rows) - len(left):
            raise WireError("a row left a cell it was not in")
        if np.isin(came, before.rows[stays]).any():
            raise WireError("a row came to a cell it was in")
        rows = np.concatenate((before.rows[stays], came))
        order = np.argsort(rows)
        after = _Cell(rows[order])
        for column, numbers in zip(self._spec.columns, before.numbers, strict=True):
            grown = np.concatenate((numbers[stays], np.zeros(len(came), column.kind.wire)))
            after.numbers.append(grown[order])
        for index in reader.mask(len(self._spec.columns)):
            changed = reader.mask(len(rows))
            kind = self._spec.columns[index].kind
            after.numbers[index][changed] = reader.numbers(kind, len(changed))
        reader.finish()
        return after, left

    def _empty(self) -> _Cell:
        none = [np.zeros(0, column.kind.wire) for column in self._spec.columns]
        return _Cell(np.zeros(0, np.int64), none)

    def _hide(self, cell: int, rows: Array) -> None:
        shown = rows[self._shown_from[rows] == cell]
        self._shown_from[shown] = NOWHERE
        for column in self._columns:
            column[shown] = 0

    def _show(self, number: int, cell: _Cell) -> None:
        self._cells[number] = cell
        self._shown_from[cell.rows] = number
        for column, numbers in zip(self._columns, cell.numbers, strict=True):
            column[cell.rows] = numbers
