"""Two frames made one: what a client that was passed over needs in place of both (docs/wire.md §3).

A delta says which values of which columns are new, so two that follow each other are one delta with
the newer values, and a keyframe with a delta after it is a keyframe. Cells are the exception: which
rows a cell's masks mean depends on what its reader holds, so their sections are sent one after the
other. `Merger` belongs to a room and keeps its last results, since those who were passed over
together need the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rallypoint.gateway.domain import frames
from rallypoint.v1 import room_pb2

KEPT: Final = 64
_WIDTHS: Final = {
    room_pb2.COLUMN_KIND_U8: 1,
    room_pb2.COLUMN_KIND_I8: 1,
    room_pb2.COLUMN_KIND_Q8: 1,
    room_pb2.COLUMN_KIND_U16: 2,
    room_pb2.COLUMN_KIND_I16: 2,
    room_pb2.COLUMN_KIND_Q16: 2,
    room_pb2.COLUMN_KIND_U32: 4,
    room_pb2.COLUMN_KIND_I32: 4,
    room_pb2.COLUMN_KIND_F32: 4,
}
_Columns = dict[int, tuple[int, bytes]]
"""By number: which rows are new, as bits, and their values one after the other."""


class Unmergeable(Exception):
    """The newer frame is no difference to the older one, or one of them cannot be read."""


class Merger:
    """Merges frames of one room."""

    def __init__(self, schema: bytes) -> None:
        """`schema` is the welcome's, serialized."""
        self._tables = {
            table.id: _Table(table) for table in room_pb2.Schema.FromString(schema).tables
        }
        self._known: dict[tuple[bytes, bytes], bytes] = {}

    def merge(self, older: bytes, newer: bytes) -> bytes:
        """The message (of one frame) that takes a client where the two would have."""
        known = self._known.get((older, newer))
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[older, newer] = self._merged(older, newer)
        return known

    def _merged(self, older: bytes, newer: bytes) -> bytes:
        first, then = (room_pb2.JoinResponse.FromString(data).frame for data in (older, newer))
        if then.base_tick != first.tick or then.epoch != first.epoch:
            raise Unmergeable(f"tick {then.base_tick} after tick {first.tick}")
        both = room_pb2.Frame(epoch=then.epoch, tick=then.tick, base_tick=first.base_tick)
        both.sections.extend(_merged_sections(self._tables, first, then))
        both.events.extend(first.events)
        both.events.extend(then.events)
        return frames.as_message(both.SerializeToString())


class _Table:
    """One table's columns, as far as their bytes are concerned."""

    def __init__(self, table: room_pb2.Table) -> None:
        self._widths = [_WIDTHS[column.kind] for column in table.columns]
        owned = table.visibility == room_pb2.VISIBILITY_OWNER
        self._rows = 1 if owned else table.rows

    def merged(self, older: bytes, newer: bytes) -> bytes:
        """The section's bytes that say what both say."""
        columns = self._read(older)
        for number, column in self._read(newer).items():
            before = columns.get(number)
            columns[number] = (
                column if before is None else _over(before, column, self._widths[number])
            )
        mask = sum(1 << number for number in columns)
        parts = [mask.to_bytes(_octets(len(self._widths)), "little")]
        for number in sorted(columns):
            rows, values = columns[number]
            parts += (rows.to_bytes(_octets(self._rows), "little"), values)
        return b"".join(parts)

    def _read(self, data: bytes) -> _Columns:
        found: _Columns = {}
        at = _octets(len(self._widths))
        present = int.from_bytes(data[:at], "little")
        for number, width in enumerate(self._widths):
            if present >> number & 1:
                begin = at + _octets(self._rows)
                rows = int.from_bytes(data[at:begin], "little")
                at = begin + rows.bit_count() * width
                found[number] = rows, data[begin:at]
        if at != len(data):
            raise Unmergeable("a section has another length than its masks say")
        return found


def _merged_sections(
    tables: Mapping[int, _Table], first: room_pb2.Frame, then: room_pb2.Frame
) -> list[room_pb2.Section]:
    cells = [
        section
        for frame in (first, then)
        for section in frame.sections
        if section.visibility == room_pb2.VISIBILITY_CELL
    ]
    merged: dict[int, room_pb2.Section] = {}
    for frame in (first, then):
        for section in frame.sections:
            if section.visibility == room_pb2.VISIBILITY_CELL:
                continue
            before = merged.setdefault(section.table, section)
            if before is not section:
                merged[section.table] = _merged_section(tables, before, section)
    return [*merged.values(), *cells]


def _merged_section(
    tables: Mapping[int, _Table], older: room_pb2.Section, newer: room_pb2.Section
) -> room_pb2.Section:
    table = tables.get(newer.table)
    if table is None:
        raise Unmergeable(f"the schema has no table {newer.table}")
    data = table.merged(older.data, newer.data)
    return room_pb2.Section(table=newer.table, visibility=newer.visibility, data=data)


def _over(older: tuple[int, bytes], newer: tuple[int, bytes], width: int) -> tuple[int, bytes]:
    """One column's values, the newer ones where both have one."""
    if not older[0] & ~newer[0]:  # what moves, moves in every frame
        return newer
    values = {**_by_row(older, width), **_by_row(newer, width)}
    return older[0] | newer[0], b"".join([values[row] for row in sorted(values)])


def _by_row(column: tuple[int, bytes], width: int) -> dict[int, bytes]:
    rows, values = column
    found: dict[int, bytes] = {}
    for place in range(rows.bit_count()):
        row = (rows & -rows).bit_length() - 1
        rows &= rows - 1
        found[row] = values[place * width : (place + 1) * width]
    return found


def _octets(bits: int) -> int:
    return (bits + 7) // 8
