"""Inputs on their way into the simulation: one ring per seat, all seats in columns.

`offer` takes what arrived, dedupes by seq and costs a few list appends; `take` runs once per tick
for all seats and applies what waits, at most three inputs per seat. The newest input applied is
what the game sees; a flag is set when any of those applied had it set. When nothing waits the
input's idle policy counts. Values are sanitized here: a game never sees NaN or a value beyond its
bounds. A ring holds 32; when it is full the oldest waiting input is given up.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from rallypoint.games import codec
from rallypoint.games.columns import Column, Input
from rallypoint.games.schema import Array, Kind

RING: Final = 32
MAX_PER_TICK: Final = 3


class InputRings:
    """The inputs of rooms * seats seats; seat s of room r has the index r * seats + s."""

    def __init__(self, kind: type[Input], rooms: int, seats: int) -> None:
        self._kind = kind
        count = rooms * seats
        self._shape = (rooms, seats)
        self.size = codec.input_size(column.spec() for column in kind.sent())
        self._ring = np.zeros((count, RING), _record(kind))
        self._seqs = np.zeros((count, RING), np.int64)
        self._head = np.zeros(count, np.int64)
        self._tail = np.zeros(count, np.int64)
        self._newest = [0] * count
        self._limit = RING * count
        self._seats: list[int] = []
        self._arrived: list[int] = []
        self._data: list[bytes] = []
        self.applied = np.zeros(count, np.int64)
        self.fresh = np.zeros(count, np.int64)
        self._current = {column.name: np.zeros(count, column.dtype) for column in kind.columns}
        self._last = {name: values.copy() for name, values in self._current.items()}
        self._flags = [column for column in kind.columns if column.dtype == np.bool_]
        self.refused = 0

    def bind(self, rooms: slice) -> Input:
        """The current input of some rooms, arrays of shape (rooms, seats)."""
        return self._kind(
            {name: values.reshape(self._shape)[rooms] for name, values in self._current.items()}
        )

    def offer(self, seat: int, first_seq: int, inputs: Sequence[bytes]) -> None:
        """Keep the inputs that are new; those of a wrong size are counted and ignored."""
        newest = self._newest[seat]
        last = first_seq + len(inputs) - 1
        if last <= newest or len(self._seats) >= self._limit:
            return
        for seq, data in enumerate(inputs, first_seq):
            if seq <= newest:
                continue
            if len(data) != self.size:
                self.refused += 1
                continue
            self._seats.append(seat)
            self._arrived.append(seq)
            self._data.append(data)
        self._newest[seat] = last

    def reset(self, seat: int, seq: int | None = None) -> None:
        """Forget what waits and what was held; the next seq is `seq` + 1, or the applied one's."""
        self._store_waiting()
        self._head[seat] = self._tail[seat]
        if seq is not None:
            self.applied[seat] = seq
        self._newest[seat] = int(self.applied[seat])
        self.release(seat)

    def release(self, seat: int) -> None:
        """Let go of all keys: the seat's input is zero until one arrives."""
        for values in (*self._current.values(), *self._last.values()):
            values[seat] = 0

    def take(self) -> None:
        """Apply what is due this tick, for all seats."""
        self._store_waiting()
        count = np.minimum(self._tail - self._head, MAX_PER_TICK)
        self.fresh = count
        self._idle()
        index = np.flatnonzero(count)
        if len(index):
            self._apply(index, count[index])

    def _idle(self) -> None:
        if self._kind.idle == "zero":
            for values in self._current.values():
                values[...] = 0
            return
        for column in self._flags:
            self._current[column.name][...] = self._last[column.name]

    def _apply(self, index: Array, count: Array) -> None:
        self._head[index] += count
        at = self._head[index] - 1
        newest = self._ring[index, at % RING]
        self.applied[index] = self._seqs[index, at % RING]
        for column in self._kind.columns:
            values = _sanitized(column, newest[column.name])
            self._current[column.name][index] = values
            self._last[column.name][index] = values
        for back in range(1, int(count.max())):
            self._merge_flags(index[count > back], back)

    def _merge_flags(self, index: Array, back: int) -> None:
        older = self._ring[index, (self._head[index] - 1 - back) % RING]
        for column in self._flags:
            self._current[column.name][index] |= older[column.name] != 0

    def _store_waiting(self) -> None:
        if not self._seats:
            return
        index = np.array(self._seats, np.intp)
        place = self._tail[index] + _rank_within(index)
        self._ring[index, place % RING] = np.frombuffer(b"".join(self._data), self._ring.dtype)
        self._seqs[index, place % RING] = self._arrived
        self._seats.clear()
        self._arrived.clear()
        self._data.clear()
        np.maximum.at(self._tail, index, place + 1)
        np.maximum(self._head, self._tail - RING, out=self._head)


def _rank_within(index: Array) -> Array:
    """For each element, how many equal ones stand before it."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.append(starts, len(ordered)))
    rank = np.empty(len(index), np.int64)
    rank[order] = np.arange(len(index)) - np.repeat(starts, lengths)
    return rank


def _record(kind: type[Input]) -> "np.dtype[Any]":
    fields = [(column.name, column.spec().kind.wire) for column in kind.sent()]
    return np.dtype(fields)


def _sanitized(column: Column, numbers: Array) -> Array:
    spec = column.spec()
    if spec.kind.quantized:
        return codec.restore(spec, numbers)
    if column.dtype == np.bool_:
        return np.asarray(numbers != 0)
    if spec.kind is Kind.F32:
        numbers = np.where(np.isfinite(numbers), numbers, np.float32(column.low or 0))
    if column.low is None and column.high is None:
        return numbers
    return np.clip(numbers, column.low, column.high)
