"""The encoder of frames: all rooms of a table in a constant number of numpy calls.

A lane is one receiver of a section: a room for SHARED tables, a seat of a room for OWNER ones. For
each lane there is one row in a matrix with every byte a frame could have (headers, masks, values),
and a mask of those to keep; selecting once gives the bytes of all lanes, which are then cut apart.
The bytes are encoded `sections` fields of `rallypoint.v1.Frame` (docs/wire.md §3), so a frame is a
concatenation. A delta is against what the last delta left, a keyframe is of that same state.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from rallypoint.games import codec
from rallypoint.games.arena import Run
from rallypoint.games.schema import Array, TableSpec

# Frame.sections and its length; Section.table, Section.visibility; Section.data and its length
SECTION_HEAD: Final = (0x22, 0, 0, 0, 0x08, 0, 0x10, 0, 0x1A, 0, 0, 0)
OUTER_AT: Final = 1
TABLE_AT: Final = 5
VISIBILITY_AT: Final = 7
INNER_AT: Final = 9
VARINT_BYTES: Final = 3  # lengths below 2 MiB
FIXED_INNER: Final = 5  # table and visibility with their tags, and the tag of data
SHORT_INNER: Final = 0x7F - FIXED_INNER - 1  # both lengths fit one byte
ALIGNMENT: Final = 4

EncoderTable = tuple[TableSpec, Sequence[Run]]


class NumpyEncoder:
    """Encodes tables for `lanes` receivers; `rows` of a table are those one receiver sees."""

    def __init__(self, tables: Sequence[EncoderTable], lanes: int) -> None:
        self._plan = _Plan(tables)
        self._matrix = np.zeros((lanes, self._plan.width), np.uint8)
        self._matrix[:] = self._plan.static
        self._keep = np.zeros((lanes, self._plan.width), np.bool_)
        # The last one stands for the unused bits of column masks and is never present.
        self._present = np.zeros((lanes, len(self._plan.column_widths) + 1), np.bool_)
        self._long = False
        self._rows = np.zeros((lanes, len(self._plan.row_mask_at)), np.uint8)
        self._cells = [
            _Cells(self, place, run, lanes)
            for place, run in zip(self._plan.runs, self._plan.sources, strict=True)
        ]

    def deltas(self, lanes: int) -> list[bytes]:
        """Sections of the first `lanes` lanes against those of the call before."""
        for cells in self._cells:
            cells.write_delta(lanes)
        return self._collect(lanes)

    def frames(self, lanes: int, heads: list[bytes], tail: bytes) -> list[bytes]:
        """`deltas` with each lane's head and the tail before them."""
        sections = self.deltas(lanes)
        return [head + tail + data for head, data in zip(heads, sections, strict=False)]

    def keyframes(self, lanes: Sequence[int]) -> list[bytes]:
        """Sections of the given lanes against zeros, as of the last `deltas`."""
        index = np.asarray(lanes, np.intp)
        for cells in self._cells:
            cells.write_keyframe(index)
        return self._collect(len(index))

    def forget(self, lanes: slice) -> None:
        """Start anew with lanes whose values were set to zero."""
        for cells in self._cells:
            cells.sent[:, lanes] = 0

    def _collect(self, lanes: int) -> list[bytes]:
        if not self._cells or not lanes:
            return [b""] * lanes
        ends = np.cumsum(self._write_heads(lanes)).tolist()
        keep = self._keep[:lanes].reshape(-1)
        data = self._matrix[:lanes].reshape(-1)[keep].tobytes()
        starts = [0, *ends[:-1]]
        return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    def _write_heads(self, lanes: int) -> Array:
        """Write column masks and section heads; the bytes of each lane."""
        plan, matrix, keep = self._plan, self._matrix[:lanes], self._keep[:lanes]
        rows = np.bitwise_count(self._rows[:lanes])
        counts = np.add.reduceat(rows, plan.column_starts, axis=1, dtype=np.int32)
        present = self._present[:lanes]
        np.not_equal(counts, 0, out=present[:, :-1])
        keep[:, plan.row_mask_at] = present.take(plan.row_mask_column, axis=1)
        masks = np.packbits(present.take(plan.mask_columns, axis=1), axis=1, bitorder="little")
        matrix[:, plan.mask_at] = masks
        sent = np.bitwise_or.reduceat(masks, plan.mask_starts, axis=1) != 0
        keep[:, plan.head_at] = sent.take(plan.head_table, axis=1)
        counts *= plan.column_widths
        counts += present[:, :-1] * plan.column_mask_sizes
        inner = np.add.reduceat(counts, plan.table_columns, axis=1)
        inner += plan.mask_sizes
        if int(inner.max()) <= SHORT_INNER:
            outer = inner + (FIXED_INNER + 1)
            matrix[:, plan.outer_at] = outer
            matrix[:, plan.inner_at] = inner
            if self._long:
                self._keep[:, plan.longer_at] = False
                self._long = False
            sizes: Array = np.add.reduce(sent * (outer + 2), axis=1)
            return sizes
        return self._write_long_heads(matrix, keep, sent, inner)

    def _write_long_heads(self, matrix: Array, keep: Array, sent: Array, inner: Array) -> Array:
        """The same for lengths of which some take more than one byte."""
        outer = inner + (FIXED_INNER + _varint_size(inner))
        lengths = np.concatenate((outer, inner), axis=1)
        lanes = len(inner)
        matrix[:, self._plan.length_at] = _varint_bytes(lengths).reshape(lanes, -1)
        both = np.concatenate((sent, sent), axis=1)
        self._long = True
        longer = np.stack((both & (lengths > 0x7F), both & (lengths > 0x3FFF)), axis=2)
        keep[:, self._plan.longer_at] = longer.reshape(lanes, -1)
        sizes: Array = np.add.reduce(sent * (outer + 1 + _varint_size(outer)), axis=1)
        return sizes


class _Place:
    """Where one run of columns stands in the matrix and among the row masks.

    The mask of a column ends where its values begin, and values begin at a multiple of their width;
    the bytes before the mask are never kept.
    """

    def __init__(self, offset: int, first_mask: int, columns: int, rows: int, width: int) -> None:
        self.offset = _aligned(offset)
        self.first_mask = first_mask
        self.columns = columns
        self.rows = rows
        self.width = width
        self.mask_size = (rows + 7) // 8
        self.values_at = _aligned(self.mask_size)
        self.mask_at = self.values_at - self.mask_size
        self.stride = _aligned(self.values_at + rows * width)

    @property
    def end(self) -> int:
        return self.offset + self.columns * self.stride


class _Plan:
    """The fixed layout: offsets of heads, masks and runs of all tables."""

    def __init__(self, tables: Sequence[EncoderTable]) -> None:
        self.runs: list[_Place] = []
        self._masks = 0
        self.sources: list[Run] = []
        self.width = 0
        row_mask_at: list[int] = []
        row_mask_column: list[int] = []
        mask_columns: list[int] = []
        columns = 0
        table_columns: list[int] = []
        heads: list[int] = []
        mask_at: list[int] = []
        mask_starts: list[int] = []
        mask_sizes: list[int] = []
        static: list[tuple[int, TableSpec]] = []
        for spec, runs in tables:
            self.width = _aligned(self.width)
            heads.append(self.width)
            static.append((self.width, spec))
            mask_starts.append(len(mask_at))
            mask_size = (len(spec.columns) + 7) // 8
            mask_sizes.append(mask_size)
            first = self.width + len(SECTION_HEAD)
            mask_at += range(first, first + mask_size)
            table_columns.append(columns)
            for place in self._place_runs(runs, codec.rows_of(spec), first + mask_size):
                for column in range(place.columns):
                    at = place.offset + column * place.stride + place.mask_at
                    row_mask_at += range(at, at + place.mask_size)
                    row_mask_column += [columns] * place.mask_size
                    mask_columns.append(columns)
                    columns += 1
            mask_columns += [-1] * (len(mask_at) * 8 - len(mask_columns))
        self.width = _aligned(self.width)
        self.static = self._static_bytes(static)
        self.mask_at = np.array(mask_at, np.intp)
        self.mask_starts = np.array(mask_starts, np.intp)
        self.row_mask_at = np.array(row_mask_at, np.intp)
        self.row_mask_column = np.array(row_mask_column, np.intp)
        self.mask_columns = np.array(mask_columns, np.intp)
        self.table_columns = np.array(table_columns, np.intp)
        sizes = [
            (place.width, place.mask_size) for place in self.runs for _ in range(place.columns)
        ]
        self.column_widths = np.array([width for width, _ in sizes], np.int32)
        self.column_mask_sizes = np.array([size for _, size in sizes], np.int32)
        self.column_starts = np.cumsum(self.column_mask_sizes) - self.column_mask_sizes
        self.mask_sizes = np.array(mask_sizes, np.int32)
        self._index_heads(np.array(heads, np.intp))

    def _place_runs(self, runs: Sequence[Run], rows: int, offset: int) -> list[_Place]:
        placed = []
        for run in runs:
            if run.kind is None:
                continue
            place = _Place(offset, self._masks, len(run.columns), rows, run.kind.width)
            self._masks += place.columns * place.mask_size
            self.sources.append(run)
            placed.append(place)
            offset = place.end
        self.runs += placed
        self.width = offset
        return placed

    def _static_bytes(self, heads: list[tuple[int, TableSpec]]) -> Array:
        row = np.zeros(self.width, np.uint8)
        for offset, spec in heads:
            if spec.id > 0x7F:
                raise ValueError("a game has at most 127 tables")
            row[offset : offset + len(SECTION_HEAD)] = SECTION_HEAD
            row[offset + TABLE_AT] = spec.id
            row[offset + VISIBILITY_AT] = int(spec.visibility)
        return row

    def _index_heads(self, heads: Array) -> None:
        count = len(heads)
        lengths = np.stack((heads + OUTER_AT, heads + INNER_AT))
        self.outer_at, self.inner_at = heads + OUTER_AT, heads + INNER_AT
        self.length_at = (lengths[:, :, None] + np.arange(VARINT_BYTES)).reshape(-1)
        self.longer_at = (lengths[:, :, None] + np.arange(1, VARINT_BYTES)).reshape(-1)
        whole = heads[:, None] + np.arange(len(SECTION_HEAD))
        masks = np.repeat(np.arange(count), self.mask_sizes)
        always = whole[:, [i for i in range(len(SECTION_HEAD)) if i not in _LONGER]]
        self.head_at = np.concatenate((always.reshape(-1), self.mask_at))
        self.head_table = np.concatenate((np.repeat(np.arange(count), always.shape[1]), masks))


_LONGER: Final = frozenset(
    at + byte for at in (OUTER_AT, INNER_AT) for byte in range(1, VARINT_BYTES)
)


class _Cells:
    """One run of columns in the matrix, and its numbers as last sent.

    All arrays are shaped (columns, lanes, rows), which is how the source lies in memory.
    """

    def __init__(self, owner: NumpyEncoder, place: _Place, run: Run, lanes: int) -> None:
        self._source = _Numbers(run, lanes, place.rows)
        self.sent = np.zeros((place.columns, lanes, place.rows), self._source.unsigned)
        self._values = _cut(owner._matrix, place, self.sent.dtype)
        self._keep_values = _cut(owner._keep.view(np.uint8), place, self.sent.dtype)
        last_mask = place.first_mask + place.columns * place.mask_size
        rows = owner._rows[:, place.first_mask : last_mask]
        self._rows = rows.reshape(lanes, place.columns, -1).transpose(1, 0, 2)
        self._masks = _stripes(owner._matrix, place)[:, :, place.mask_at : place.values_at]
        self._every_byte = self.sent.dtype.type(int("01" * place.width, 16))
        self._quiet = True

    def write_delta(self, lanes: int) -> None:
        numbers = self._source.numbers(lanes)
        sent = self.sent[:, :lanes]
        changed = numbers != sent
        if np.count_nonzero(changed):
            self._write(numbers, changed, lanes)
            sent[...] = numbers
        elif not self._quiet:
            self._silence()

    def write_keyframe(self, index: Array) -> None:
        numbers = self.sent[:, index]
        self._write(numbers, numbers != 0, len(index))

    def _write(self, numbers: Array, changed: Array, lanes: int) -> None:
        bits = np.packbits(changed, axis=2, bitorder="little")
        self._rows[:, :lanes] = bits
        self._masks[:, :lanes] = bits
        self._values[:, :lanes] = numbers
        np.multiply(changed, self._every_byte, out=self._keep_values[:, :lanes])
        self._quiet = False

    def _silence(self) -> None:
        self._rows[...] = 0
        self._keep_values[...] = 0
        self._quiet = True


def _cut(matrix: Array, place: _Place, dtype: "np.dtype[Any]") -> Array:
    """A view of a run's values, shaped (columns, lanes, rows)."""
    end = place.values_at + place.rows * place.width
    values = _stripes(matrix, place)[:, :, place.values_at : end].view(dtype)
    if not np.shares_memory(values, matrix):
        raise AssertionError("the view into the matrix must not be a copy")
    return values


def _stripes(matrix: Array, place: _Place) -> Array:
    """A view of a run's bytes, shaped (columns, lanes, stride)."""
    cells = matrix[:, place.offset : place.end].reshape(len(matrix), place.columns, place.stride)
    return cells.transpose(1, 0, 2)


class _Numbers:
    """The wire numbers of a run, as unsigned integers so that equal means equal bits."""

    def __init__(self, run: Run, lanes: int, rows: int) -> None:
        if run.kind is None:
            raise ValueError("hidden columns have no wire numbers")
        self.unsigned: np.dtype[Any] = np.dtype(f"<u{run.kind.width}")
        self._values = run.values.reshape(len(run.columns), lanes, rows)
        self._top = codec.QUANTA.get(run.kind, 0)
        if self._top:
            low, span = _bounds(run)
            self._low, self._scale = low, self._top / span

    def numbers(self, lanes: int) -> Array:
        """Shaped (columns, lanes, rows)."""
        values = self._values[:, :lanes]
        if not self._top:
            return values.view(self.unsigned)
        steps = values - self._low
        steps *= self._scale
        np.fmax(steps, 0.0, out=steps)  # fmax turns NaN into the other
        np.minimum(steps, self._top, out=steps)
        np.rint(steps, out=steps)
        return steps.astype(self.unsigned)


def _bounds(run: Run) -> tuple[Array, Array]:
    low = np.array([column.spec().minimum for column in run.columns])
    high = np.array([column.spec().maximum for column in run.columns])
    return low[:, None, None], (high - low)[:, None, None]


def _varint_size(lengths: Array) -> Array:
    size: Array = np.int32(1) + (lengths > 0x7F) + (lengths > 0x3FFF)
    return size


def _varint_bytes(lengths: Array) -> Array:
    """(lanes, lengths) as (lanes, lengths, bytes) of little-endian base 128."""
    out = np.empty((*lengths.shape, VARINT_BYTES), np.uint8)
    out[:, :, 0] = (lengths & 0x7F) | ((lengths > 0x7F) << 7)
    out[:, :, 1] = ((lengths >> 7) & 0x7F) | ((lengths > 0x3FFF) << 7)
    out[:, :, 2] = lengths >> 14
    return out


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
