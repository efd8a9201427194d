"""The memory of one table of rooms: every column of every room in one piece of bytes.

One piece, so that taking a copy before a tick and putting it back after a failed one is a single
`copyto` (the double buffer of decisions §6), and so that a snapshot later has one thing to write.
Adjacent columns of the same kind form a `Run`: an array of shape (columns, rooms, rows).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from rallypoint.games.columns import Column, Table
from rallypoint.games.schema import Array, Kind

ALIGNMENT_BYTES = 16
T = TypeVar("T", bound=Table)


@dataclass(frozen=True, slots=True)
class Run:
    """Adjacent columns of one kind: `values[i]` is column i, shaped (rooms, rows)."""

    columns: tuple[Column, ...]
    values: Array

    @property
    def kind(self) -> Kind | None:
        """The kind on the wire; None for hidden columns."""
        return self.columns[0].kind


@dataclass(frozen=True, slots=True)
class Layout:
    """A table class with the number of rows it has in this game."""

    table: type[Table]
    rows: int

    def runs(self) -> list[tuple[Column, ...]]:
        """Its columns, grouped by kind and type without changing their order."""
        groups = groupby(self.table.columns, key=lambda column: (column.kind, column.dtype))
        return [tuple(columns) for _, columns in groups]


class Arena:
    """Arrays for `rooms` rooms of the tables in `layouts`, all zero."""

    def __init__(self, layouts: Sequence[Layout], rooms: int) -> None:
        self.rooms = rooms
        sizes = [
            _aligned(len(run) * rooms * layout.rows * run[0].dtype.itemsize)
            for layout in layouts
            for run in layout.runs()
        ]
        self._bytes = np.zeros(sum(sizes), np.uint8)
        self._saved = self._bytes.copy()
        self.runs: dict[type[Table], list[Run]] = {layout.table: [] for layout in layouts}
        self._saved_runs: list[tuple[Run, Array]] = []
        offset = 0
        for layout in layouts:
            for columns in layout.runs():
                offset = self._place(layout, columns, offset)

    def save(self) -> None:
        """Remember everything as it is."""
        np.copyto(self._saved, self._bytes)

    def restore(self) -> None:
        """Put everything back as it was saved."""
        np.copyto(self._bytes, self._saved)

    def restore_room(self, room: int) -> None:
        """Put one room back as it was saved."""
        for run, saved in self._saved_runs:
            run.values[:, room] = saved[:, room]

    def room_bytes(self, room: int) -> bytes:
        """All numbers of one room; they fit an arena of the same layouts."""
        return b"".join([run.values[:, room].tobytes() for run, _ in self._saved_runs])

    def pieces(self) -> tuple[tuple[Array, int], ...]:
        """The arrays that `room_bytes` reads, in its order, each with the number of its columns."""
        return tuple((run.values, len(run.columns)) for run, _ in self._saved_runs)

    def load_room(self, room: int, data: bytes) -> None:
        """Set one room to what `room_bytes` gave; ValueError when it does not fit."""
        runs = [run.values for run, _ in self._saved_runs]
        if len(data) != sum(values[:, room].nbytes for values in runs):
            raise ValueError(f"{len(data)} bytes do not fit the columns")
        offset = 0
        for values in runs:
            part = values[:, room]
            numbers = np.frombuffer(data, values.dtype, part.size, offset)
            part[...] = numbers.reshape(part.shape)
            offset += part.nbytes

    def clear_room(self, room: int) -> None:
        """Set one room to zero."""
        for runs in self.runs.values():
            for run in runs:
                run.values[:, room] = 0

    def bind(self, table: type[T], index: Any) -> T:
        """The table's columns for the rooms that `index` selects: a slice, or one number."""
        return table(
            {
                column.name: run.values[position][index]
                for run in self.runs[table]
                for position, column in enumerate(run.columns)
            }
        )

    def _place(self, layout: Layout, columns: tuple[Column, ...], offset: int) -> int:
        dtype = columns[0].dtype
        shape = (len(columns), self.rooms, layout.rows)
        end = offset + int(np.prod(shape)) * dtype.itemsize
        values = self._bytes[offset:end].view(dtype).reshape(shape)
        run = Run(columns, values)
        self.runs[layout.table].append(run)
        self._saved_runs.append((run, self._saved[offset:end].view(dtype).reshape(shape)))
        return _aligned(end)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
