"""CELL tables seen whole, for recordings: who watches a replay stands nowhere and sees every row.

In a recording such a table is a SHARED one, and its sections are those of docs/wire.md §3, so
viewers need no cells. That costs less than cells do, and nothing while no room is recorded. Rows
that are nowhere are zeros, as they are for clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rallypoint.games import sections
from rallypoint.games.arena import Arena, Run
from rallypoint.games.schema import Array, Schema, TableSpec, Visibility

if TYPE_CHECKING:
    from rallypoint.games.columns import Column, Table
    from rallypoint.games.definition import Definition
    from rallypoint.games.encoder import EncoderTable


def schema_of(definition: Definition) -> Schema:
    """The schema of a game's recordings."""
    whole = {spec.id: spec for spec, _ in _found(definition)}
    tables = tuple(whole.get(spec.id, spec) for spec in definition.schema.tables)
    return replace(definition.schema, tables=tables)


def make(definition: Definition, arena: Arena) -> Overview | None:
    """For the rooms of `arena`; None for a game without such tables."""
    found = _found(definition)
    return Overview(found, arena) if found else None


class Overview:
    """The sections of all rows of CELL tables; memory is taken when the first are asked for."""

    def __init__(self, tables: Sequence[tuple[TableSpec, type[Table]]], arena: Arena) -> None:
        self._tables = tables
        self._arena = arena
        self._copies: list[_Copy] = []
        self._encoder: sections.SectionEncoder | None = None

    def deltas(self, rooms: int) -> list[bytes]:
        """Sections of the first rooms against those of the call before."""
        encoder = self._encoder
        if encoder is None:
            encoder = sections.make(
                [self._encoded(*table) for table in self._tables], self._arena.rooms
            )
            self._encoder = encoder
        for copy in self._copies:
            copy.renew(rooms)
        return encoder.deltas(rooms)

    def keyframes(self, slots: Sequence[int]) -> list[bytes]:
        """The same state as the last `deltas`, against zeros."""
        if self._encoder is None:
            raise LookupError("ask for deltas first")
        return self._encoder.keyframes(slots)

    def _encoded(self, spec: TableSpec, table: type[Table]) -> EncoderTable:
        runs = [run for run in self._arena.runs[table] if run.kind is not None]
        alive = table.cells.alive if table.cells else ""
        if not alive:
            return spec, runs
        copy = _Copy(runs, self._arena.bind(table, slice(None)).arrays[alive])
        self._copies.append(copy)
        return spec, copy.runs


class _Copy:
    """The columns of a table, but zeros on the wire where a row is nowhere."""

    def __init__(self, runs: Sequence[Run], alive: Array) -> None:
        self.runs = [Run(run.columns, np.zeros_like(run.values)) for run in runs]
        self._sources = runs
        self._alive = alive
        self._zeros = [
            np.array([_zero(column) for column in run.columns], run.values.dtype)[:, None, None]
            for run in runs
        ]

    def renew(self, rooms: int) -> None:
        """Take the state of the first rooms as it is now."""
        alive = self._alive[:rooms] != 0
        for run, source, zeros in zip(self.runs, self._sources, self._zeros, strict=True):
            run.values[:, :rooms] = np.where(alive, source.values[:, :rooms], zeros)


def _zero(column: Column) -> float:
    """The value that is 0 on the wire."""
    spec = column.spec()
    return spec.minimum if spec.kind.quantized else 0.0


def _found(definition: Definition) -> list[tuple[TableSpec, type[Table]]]:
    by_name = {layout.table.wire_name: layout.table for layout in definition.layouts}
    return [
        (replace(spec, visibility=Visibility.SHARED), table)
        for spec in definition.schema.tables
        if (table := by_name[spec.name]).cells is not None and table.cells.recorded
    ]
