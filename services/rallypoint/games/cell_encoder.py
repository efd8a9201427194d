"""The sections of one CELL table: what its cells say now, and said a few frames ago.

Each published state is kept for a while, so that a client that was not told of a cell for some
frames gets the difference to what it holds. A cell's section of an age is encoded once, whoever
gets it, and all wanted ones of an age together. Rows of all rooms stand one after the other, and
so do the cells: `room * cells + cell` is a cell's key here.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from rallypoint.games import codec
from rallypoint.games.arena import Arena
from rallypoint.games.codec_cells import DELTA, GONE, KEYFRAME
from rallypoint.games.columns import Table
from rallypoint.games.grid import Grid
from rallypoint.games.schema import Array, ColumnSpec, TableSpec, Visibility
from rallypoint.games.varints import varint, varints

HISTORY: Final = 8
"""The oldest state that a delta can be against, in frames."""
KEPT: Final = HISTORY + 1
NOWHERE: Final = -1
FRESH: Final = 0
"""As an age: against nothing, a keyframe."""


class CellEncoder:
    """Encodes the cells of a table in `arena`; `table.cells` says what places its rows."""

    def __init__(self, spec: TableSpec, table: type[Table], arena: Arena, grid: Grid) -> None:
        if table.cells is None:
            raise ValueError(f"{spec.name} has no cells")
        self.spec = spec
        self.grid = grid
        self.now = 0
        rows = arena.rooms * spec.rows
        arrays = arena.bind(table, slice(None)).arrays
        self._x, self._y = (arrays[name].reshape(-1) for name in (table.cells.x, table.cells.y))
        alive = table.cells.alive
        self._alive = arrays[alive].reshape(-1) if alive else None
        self._sources = [arrays[column.name].reshape(-1) for column in spec.columns]
        self._states = [
            [np.zeros(rows, f"<u{column.kind.width}") for column in spec.columns]
            for _ in range(KEPT)
        ]
        self._keys = np.full((KEPT, rows), NOWHERE, np.int64)
        self._order = np.zeros(0, np.int64)
        self._sorted = np.zeros(0, np.int64)
        self.changed_at = np.zeros(arena.rooms * grid.cells, np.int64)
        """The frame in which a cell changed last, by its key."""
        self.row_bytes = sum(column.kind.width for column in spec.columns)
        self._head = bytes((0x08, spec.id, 0x10, int(Visibility.CELL), 0x1A))

    def publish(self, rooms: int) -> None:
        """Take the state of the first rooms as that of the next frame."""
        before = self._keys[self.now % KEPT]
        was = self._states[self.now % KEPT]
        self.now += 1
        rows = rooms * self.spec.rows
        keys, state = self._keys[self.now % KEPT], self._states[self.now % KEPT]
        keys[rows:] = NOWHERE
        keys[:rows] = self._placed(rows)
        moved = keys != before
        changed = moved.copy()
        for column, source, numbers, old in zip(
            self.spec.columns, self._sources, state, was, strict=True
        ):
            numbers[:rows] = _numbers(column, source[:rows])
            changed |= numbers != old
        self._mark(before[moved])
        self._mark(keys[changed])
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def forget(self, room: int) -> None:
        """A room begins that nobody has seen."""
        self._keys[:, room * self.spec.rows : (room + 1) * self.spec.rows] = NOWHERE

    def counts(self, keys: Array) -> Array:
        """How many rows are in each cell now."""
        low = np.searchsorted(self._sorted, keys, "left")
        return np.searchsorted(self._sorted, keys, "right") - low

    def gone(self, keys: Sequence[int]) -> list[bytes]:
        """The sections that take cells away."""
        return [self._section(varint(key % self.grid.cells) + bytes((GONE,))) for key in keys]

    def encode(self, keys: Array, age: int) -> list[bytes]:
        """The sections of some cells, ascending, against the state `age` frames ago."""
        members = _Members(self._sorted, self._order, keys)
        old, came, left, left_of = self._against(age, keys, members.rows)
        rows = self.spec.rows
        lists = zip(
            varints(left % rows, left_of, len(keys)),
            varints(members.rows[came] % rows, members.of[came], len(keys)),
            strict=True,
        )
        state = self._states[self.now % KEPT]
        columns = [
            _Changes(members, numbers[members.rows], before)
            for numbers, before in zip(state, old, strict=True)
        ]
        size = (len(columns) + 7) // 8
        present = np.array([column.present for column in columns])
        masks = np.packbits(present, axis=0, bitorder="little").T.tobytes()
        mode = bytes((KEYFRAME if age == FRESH else DELTA,))
        out = []
        for at, (key, ids) in enumerate(zip((keys % self.grid.cells).tolist(), lists, strict=True)):
            data = [varint(key), mode, *ids, masks[at * size : at * size + size]]
            for column in columns:
                data += column.bytes[at]
            out.append(self._section(b"".join(data)))
        return out

    def _against(
        self, age: int, keys: Array, rows: Array
    ) -> tuple[Sequence[Any], Array, Array, Array]:
        """For the rows of some cells: the numbers to tell the difference to, and which came; the
        rows that left, and the places of their cells."""
        if age == FRESH:
            none = np.zeros(0, np.int64)
            return [0] * len(self.spec.columns), np.ones(len(rows), np.bool_), none, none
        then, now = self._keys[(self.now - age) % KEPT], self._keys[self.now % KEPT]
        came = then[rows] != now[rows]
        state = self._states[(self.now - age) % KEPT]
        left, left_of = _left(keys, then, now)
        return [np.where(came, 0, numbers[rows]) for numbers in state], came, left, left_of

    def _placed(self, rows: int) -> Array:
        cells = self.grid.cell(self._x[:rows], self._y[:rows])
        room = np.arange(rows) // self.spec.rows
        keys = room * self.grid.cells + cells
        return keys if self._alive is None else np.where(self._alive[:rows] != 0, keys, NOWHERE)

    def _mark(self, keys: Array) -> None:
        self.changed_at[keys[keys != NOWHERE]] = self.now

    def _section(self, data: bytes) -> bytes:
        body = self._head + varint(len(data)) + data
        return b"\x22" + varint(len(body)) + body


class _Members:
    """The rows of some cells, cell by cell: `of` is the cell's place, `bit` the row's in masks.

    Each cell's masks begin with a byte of their own, at `byte`.
    """

    def __init__(self, ordered: Array, order: Array, keys: Array) -> None:
        start = np.searchsorted(ordered, keys, "left")
        count = np.searchsorted(ordered, keys, "right") - start
        self.cells = len(keys)
        self.of = np.repeat(np.arange(len(keys)), count)
        rank = np.arange(len(self.of)) - np.repeat(np.cumsum(count) - count, count)
        self.rows = order[np.repeat(start, count) + rank]
        size = (count + 7) // 8
        ends = np.cumsum(size)
        self.bytes = int(ends[-1]) if len(ends) else 0
        self.bit = np.repeat((ends - size) * 8, count) + rank
        self.spans = list(zip((ends - size).tolist(), ends.tolist(), strict=True))


class _Changes:
    """One column of some cells: which have changes, and their mask and values."""

    def __init__(self, members: _Members, numbers: Array, before: Any) -> None:
        changed = numbers != before
        bits = np.zeros(members.bytes * 8, np.bool_)
        bits[members.bit] = changed
        masks = np.packbits(bits, bitorder="little").tobytes()
        values = numbers[changed].tobytes()
        counts = np.bincount(members.of[changed], minlength=members.cells)
        ends = np.cumsum(counts) * numbers.itemsize
        starts = ends - counts * numbers.itemsize
        self.present = counts > 0
        self.bytes = [
            (masks[first:last], values[start:end]) if end > start else ()
            for (first, last), start, end in zip(
                members.spans, starts.tolist(), ends.tolist(), strict=True
            )
        ]


def _left(keys: Array, then: Array, now: Array) -> tuple[Array, Array]:
    """The rows that were in some of the cells and are not, by cell, and the places of those."""
    moved = np.flatnonzero((then != now) & (then != NOWHERE))
    place = np.minimum(np.searchsorted(keys, then[moved]), len(keys) - 1)
    wanted = keys[place] == then[moved]
    moved, place = moved[wanted], place[wanted]
    order = np.argsort(place, kind="stable")
    return moved[order], place[order]


def _numbers(column: ColumnSpec, values: Array) -> Array:
    """The wire numbers as unsigned integers, so that equal means equal bits."""
    numbers = codec.quantize(column, values) if column.kind.quantized else values
    return numbers.view(f"<u{column.kind.width}")
