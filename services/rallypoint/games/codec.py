"""Values to wire numbers and back: quantizing, input packing, and the decoder of one room.

The encoder of frames is in `encoder`, because it works on many rooms at once; what is here is the
other side of the wire and the arithmetic both share (docs/wire.md §3 and §4). A decoder refuses
everything the page calls an error with `WireError`, and is then of no more use.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from rallypoint.games.codec_cells import CellTable
from rallypoint.games.reader import Reader
from rallypoint.games.reader import WireError as WireError
from rallypoint.games.schema import Array, ColumnSpec, Kind, Schema, TableSpec, Visibility

QUANTA: Final[Mapping[Kind, int]] = {Kind.Q8: 255, Kind.Q16: 65535}


def quantize(column: ColumnSpec, values: Array) -> Array:
    """Wire numbers of `values`: clamped, rounded half to even, NaN as 0."""
    if not column.kind.quantized:
        return values.astype(column.kind.wire)
    top = QUANTA[column.kind]
    scale = top / (column.maximum - column.minimum)
    steps = np.fmax((values - column.minimum) * scale, 0.0)  # fmax turns NaN into the other
    return np.rint(np.minimum(steps, top)).astype(column.kind.wire)


def restore(column: ColumnSpec, numbers: Array) -> Array:
    """The values that wire numbers stand for; float64 for quantized kinds."""
    if not column.kind.quantized:
        return numbers
    span = column.maximum - column.minimum
    return np.asarray(column.minimum + numbers.astype(np.float64) * span / QUANTA[column.kind])


def input_size(columns: Iterable[ColumnSpec]) -> int:
    """Bytes of one packed input."""
    return sum(column.kind.width for column in columns)


def pack_input(columns: Iterable[ColumnSpec], values: Mapping[str, float]) -> bytes:
    """One input: the values one after the other, absent ones as 0."""
    parts = [_pack_value(column, values.get(column.name, 0)) for column in columns]
    return b"".join(parts)


def unpack_input(columns: Iterable[ColumnSpec], data: bytes) -> dict[str, float]:
    """The values of one packed input; WireError unless it is exactly as long as the columns."""
    columns = tuple(columns)
    if len(data) != input_size(columns):
        raise WireError(f"an input has {input_size(columns)} bytes, not {len(data)}")
    values: dict[str, float] = {}
    offset = 0
    for column in columns:
        number = np.frombuffer(data, column.kind.wire, 1, offset)
        values[column.name] = restore(column, number)[0].item()
        offset += column.kind.width
    return values


class Decoder:
    """The tables of one room, as a client holds them.

    `tables[name][column]` are wire numbers, one per row; `values` turns them into what they mean.
    An OWNER table has one row here, that of the seat.
    """

    def __init__(self, schema: Schema) -> None:
        self._specs = {table.id: table for table in schema.tables}
        self.tables: dict[str, dict[str, Array]] = {
            table.name: _zeros(table) for table in schema.tables
        }
        self.cells: dict[int, CellTable] = {
            table.id: CellTable(table, self.tables[table.name])
            for table in schema.tables
            if table.visibility is Visibility.CELL
        }

    def clear(self) -> None:
        """Set everything to zero and hold no cell, as a keyframe's first step."""
        for cells in self.cells.values():
            cells.clear()
        for table in self.tables.values():
            for numbers in table.values():
                numbers[...] = 0

    def apply(self, table_id: int, data: bytes) -> None:
        """Apply one section. A keyframe is `clear` and then its sections."""
        spec = self._specs.get(table_id)
        if spec is None:
            raise WireError(f"the schema has no table {table_id}")
        if spec.visibility is Visibility.CELL:
            self.cells[table_id].apply(data)
            return
        reader = Reader(data)
        table = self.tables[spec.name]
        rows = rows_of(spec)
        for index in reader.mask(len(spec.columns)):
            column = spec.columns[index]
            changed = reader.mask(rows)
            table[column.name][changed] = reader.numbers(column.kind, len(changed))
        reader.finish()

    def values(self, name: str) -> dict[str, Array]:
        """The columns of a table with their meaning: quantized kinds as float64."""
        spec = next(spec for spec in self._specs.values() if spec.name == name)
        numbers = self.tables[name]
        return {column.name: restore(column, numbers[column.name]) for column in spec.columns}


def rows_of(table: TableSpec) -> int:
    """Rows that one client sees of a table."""
    return 1 if table.visibility is Visibility.OWNER else table.rows


def _zeros(table: TableSpec) -> dict[str, Array]:
    rows = rows_of(table)
    return {column.name: np.zeros(rows, column.kind.wire) for column in table.columns}


def _pack_value(column: ColumnSpec, value: float) -> bytes:
    if column.kind.quantized or column.kind is Kind.F32:
        return quantize(column, np.array([value], np.float64)).tobytes()
    return np.array([value], column.kind.wire).tobytes()
