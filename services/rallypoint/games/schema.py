"""What a game's tables look like on the wire: kinds, columns, tables and the schema's hash.

A schema is plain data, equal to `rallypoint.v1.Schema` field by field but free of protobuf, so that
games, encoders, decoders and tests can hold one without a stub. The contract is `docs/wire.md` §3,
§4 and §6; kinds and visibilities have the numbers of the protobuf enums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FNV_OFFSET: Final = 0xCBF29CE484222325
FNV_PRIME: Final = 0x100000001B3
SEATS_TABLE: Final = "seats"


class Kind(IntEnum):
    """How a value is stored: the numbers of `rallypoint.v1.ColumnKind`."""

    U8 = 1
    U16 = 2
    U32 = 3
    I8 = 4
    I16 = 5
    I32 = 6
    F32 = 7
    Q8 = 8
    Q16 = 9

    @property
    def wire(self) -> "np.dtype[Any]":
        """The little-endian number that goes over the wire."""
        return _WIRE[self]

    @property
    def width(self) -> int:
        """Bytes of one value."""
        return int(_WIRE[self].itemsize)

    @property
    def quantized(self) -> bool:
        """Whether the number stands for a place between a minimum and a maximum."""
        return self in (Kind.Q8, Kind.Q16)


_WIRE: Final[Mapping[Kind, "np.dtype[Any]"]] = {
    Kind.U8: np.dtype("u1"),
    Kind.U16: np.dtype("<u2"),
    Kind.U32: np.dtype("<u4"),
    Kind.I8: np.dtype("i1"),
    Kind.I16: np.dtype("<i2"),
    Kind.I32: np.dtype("<i4"),
    Kind.F32: np.dtype("<f4"),
    Kind.Q8: np.dtype("u1"),
    Kind.Q16: np.dtype("<u2"),
}


class Visibility(IntEnum):
    """Who receives a table: the numbers of `rallypoint.v1.Visibility`."""

    SHARED = 1
    CELL = 2
    TEAM = 3
    OWNER = 4


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column. `minimum` and `maximum` mean something for quantized kinds only."""

    name: str
    kind: Kind
    minimum: float = 0.0
    maximum: float = 0.0


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: `rows` per room, or one per seat and seat alone when its visibility is OWNER."""

    id: int
    name: str
    rows: int
    columns: tuple[ColumnSpec, ...]
    visibility: Visibility = Visibility.SHARED


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables by id, and the columns of one input."""

    tables: tuple[TableSpec, ...]
    input: tuple[ColumnSpec, ...] = ()

    def text(self) -> str:
        """The canonical text of docs/wire.md §6."""
        lines: list[str] = []
        for table in sorted(self.tables, key=lambda table: table.id):
            lines.append(f"table {table.id} {table.name} {table.rows} {int(table.visibility)}\n")
            lines += [f"column {_column_text(column)}\n" for column in table.columns]
        lines += [f"input {_column_text(column)}\n" for column in self.input]
        return "".join(lines)

    def hash(self) -> int:
        """FNV-1a 64 of the canonical text."""
        value = FNV_OFFSET
        for byte in self.text().encode():
            value = ((value ^ byte) * FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
        return value


def seats_table(seats: int) -> TableSpec:
    """Table 0, made by the platform for every game."""
    columns = (ColumnSpec("ack", Kind.U16), ColumnSpec("state", Kind.U8))
    return TableSpec(0, SEATS_TABLE, seats, columns)


def _column_text(column: ColumnSpec) -> str:
    low, high = _shortest(column.minimum), _shortest(column.maximum)
    return f"{column.name} {int(column.kind)} {low} {high}"


def _shortest(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
