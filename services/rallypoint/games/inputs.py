"""Inputs on their way into the simulation: one ring per seat, all seats in columns.

`offer` takes what arrived, dedupes by seq and costs three list appends; `take` runs once per tick
for all seats and applies what waits, at most three inputs per seat. The newest input applied is
what the game sees; a flag is set when any of those applied had it set. When nothing waits the
input's idle policy counts. Values are sanitized here: a game never sees NaN or a value beyond its
bounds. A ring holds 32; when it is full the oldest waiting input is given up.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rallypoint.games import codec
from rallypoint.games.columns import Column, Input
from rallypoint.games.heard import Heard
from rallypoint.games.saved import SavedInputs
from rallypoint.games.schema import Array, Kind

if TYPE_CHECKING:
    from rallypoint.games import _inputs

RING: Final = 32
MAX_PER_TICK: Final = 3
MAX_JUMP: Final = 4096  # seqs given up while a network was away; `ack` tells 16 bits apart


class InputRings:
    """The inputs of rooms * seats seats; seat s of room r has the index r * seats + s.

    What waits is three lists in order of arrival, since at most ticks each seat has one input in
    them: then they become columns without any sorting. Only what a tick leaves over stays.
    """

    native: "_inputs.Rings | None" = None
    """The ring in C that has what waits, when there is one."""

    def __init__(self, kind: type[Input], rooms: int, seats: int) -> None:
        self._kind = kind
        count = rooms * seats
        self._shape = (rooms, seats)
        self.size = codec.input_size(column.spec() for column in kind.sent())
        self._record = _record(kind)
        self._newest: list[int] | Array = [0] * count
        self._room_for = RING * count
        self._limit = self._room_for
        self._seats: list[int] = []
        self._arrived: list[int] = []
        self._data: list[bytes] = []
        self.applied = np.zeros(count, np.int64)
        self.heard = Heard(count)
        self.fresh = np.zeros(count, np.int64)
        self._current = {column.name: np.zeros(count, column.dtype) for column in kind.columns}
        self._sanitize = [(column.name, _sanitizer(column)) for column in kind.sent()]
        # A flag is true for a tick when an older input had it; held is what the newest says.
        self._held = {
            column.name: np.zeros(count, np.bool_)
            for column in kind.columns
            if column.dtype == np.bool_
        }
        self.refused = 0

    def bind(self, rooms: slice) -> Input:
        """The current input of some rooms, arrays of shape (rooms, seats)."""
        return self._kind(
            {name: values.reshape(self._shape)[rooms] for name, values in self._current.items()}
        )

    def offer(self, seat: int, first_seq: int, inputs: Sequence[bytes]) -> None:
        """Keep the inputs that are new; those of a wrong size or from far ahead are refused.

        A seq far ahead would make every honest one after it look old. A game that takes no inputs
        refuses all.
        """
        newest = self._newest[seat]
        last = first_seq + len(inputs) - 1
        if last <= newest or len(self._seats) >= self._limit:
            return
        if first_seq > newest + MAX_JUMP or not self.size:
            self.refused += len(inputs)
            return
        seq = first_seq
        for data in inputs:
            if seq > newest:
                if len(data) == self.size:
                    self._seats.append(seat)
                    self._arrived.append(seq)
                    self._data.append(data)
                else:
                    self.refused += 1
            seq += 1
        self._newest[seat] = last

    def reset(self, seat: int, seq: int | None = None) -> None:
        """Forget what waits and what was held; the next seq is `seq` + 1, or the applied one's."""
        self._drop(seat)
        self.heard.forget(slice(seat, seat + 1))
        if seq is not None:
            self.applied[seat] = seq
        self._newest[seat] = int(self.applied[seat])
        self.release(seat)

    def release(self, seat: int) -> None:
        """Let go of all keys: the seat's input is zero until one arrives."""
        for values in self._values():
            values[seat] = 0

    def saved(self, first: int, count: int = 1) -> tuple[SavedInputs, ...]:
        """The inputs of adjacent seats, to go on with in another table."""
        seats = slice(first, first + count)
        octets = [values[seats].view(np.uint8).reshape(count, -1) for values in self._values()]
        current = np.concatenate(octets, axis=1) if octets else np.zeros((count, 0), np.uint8)
        rows = zip(self.applied[seats].tolist(), self._newest[seats], current, strict=True)
        return tuple(
            SavedInputs(
                applied=applied,
                newest=int(newest),
                waiting=tuple(self._waiting(seat)),
                current=row.tobytes(),
            )
            for seat, (applied, newest, row) in enumerate(rows, start=first)
        )

    def pieces(self) -> tuple[Array, Array, tuple[tuple[Array, int], ...]]:
        """The arrays that `saved` reads: applied and newest seqs, and what is seen and held."""
        return self.applied, np.asarray(self._newest), tuple((each, 1) for each in self._values())

    def restore(self, seat: int, saved: SavedInputs) -> None:
        """Go on with what `saved` gave; ValueError when it does not fit."""
        self.reset(seat, saved.applied)
        self._newest[seat] = saved.newest
        for seq, data in saved.waiting:
            if len(data) != self.size:
                raise ValueError("an input of another size waits")
            self._wait(seat, seq, data)
        offset = 0
        for values in self._values() if saved.current else ():
            values[seat] = np.frombuffer(saved.current, values.dtype, 1, offset)[0]
            offset += values.itemsize

    def _wait(self, seat: int, seq: int, data: bytes) -> None:
        self._seats.append(seat)
        self._arrived.append(seq)
        self._data.append(data)

    def _waiting(self, seat: int) -> list[tuple[int, bytes]]:
        found = [at for at, other in enumerate(self._seats) if other == seat]
        return [(self._arrived[at], self._data[at]) for at in found]

    def _drop(self, seat: int) -> None:
        if seat in self._seats:
            self._keep([at for at, other in enumerate(self._seats) if other != seat])

    def _values(self) -> list[Array]:
        return [*self._current.values(), *self._held.values()]

    def take(self) -> None:
        """Apply what is due this tick, for all seats."""
        self._idle()
        self.fresh.fill(0)
        if not self._seats:
            return
        index = np.array(self._seats, np.intp)
        records = np.frombuffer(b"".join(self._data), self._record)
        seqs = np.array(self._arrived, np.int64)
        if len(set(self._seats)) == len(index):
            self.fresh[index] = 1
            self._apply(index, records, seqs)
            self._keep(())
        else:
            self._take_several(index, records, seqs)

    def _take_several(self, index: Array, records: Array, seqs: Array) -> None:
        """The same when seats have more than one input waiting."""
        rank = _rank_within(index)
        waiting = np.bincount(index, minlength=len(self.fresh))
        rank -= np.maximum(waiting - RING, 0)[index]  # negative for those given up
        count = np.minimum(waiting, MAX_PER_TICK)
        self.fresh[...] = count
        newest = np.flatnonzero(rank == count[index] - 1)
        self._apply(index[newest], records[newest], seqs[newest])
        older = np.flatnonzero((rank >= 0) & (rank < count[index] - 1))
        for name in self._held:
            pressed = older[records[name][older] != 0]
            self._current[name][index[pressed]] = True
        self._keep(np.flatnonzero(rank >= MAX_PER_TICK).tolist())

    def _keep(self, places: Sequence[int]) -> None:
        """Let only the inputs at these places wait on."""
        self._seats = [self._seats[at] for at in places]
        self._arrived = [self._arrived[at] for at in places]
        self._data = [self._data[at] for at in places]
        self._limit = self._room_for + len(places)

    def _idle(self) -> None:
        if self._kind.idle == "zero":
            for values in self._current.values():
                values.fill(0)
            return
        for name, held in self._held.items():
            np.copyto(self._current[name], held)

    def _apply(self, index: Array, records: Array, seqs: Array) -> None:
        """Make records, one per seat of `index`, the current input."""
        self.applied[index] = seqs
        for name, sanitize in self._sanitize:
            values = sanitize(records[name])
            self._current[name][index] = values
            if name in self._held:
                self._held[name][index] = values


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


def _sanitizer(column: Column) -> Callable[[Array], Array]:
    """What makes numbers off the wire fit for a game."""
    spec = column.spec()
    if spec.kind.quantized:
        return functools.partial(codec.restore, spec)
    if column.dtype == np.bool_:
        return lambda numbers: np.asarray(numbers != 0)
    clamp = _clamp(column.low, column.high, spec.kind.wire)
    if spec.kind is not Kind.F32:
        return clamp
    instead = np.float32(column.low or 0)
    return lambda numbers: clamp(np.where(np.isfinite(numbers), numbers, instead))


def _clamp(
    low: float | None, high: float | None, dtype: "np.dtype[Any]"
) -> Callable[[Array], Array]:
    """np.clip with its checks done once."""
    if low is None and high is None:
        return lambda numbers: numbers
    least, most = -np.inf, np.inf
    if dtype.kind in "iu":  # a bound beyond the type's own would raise
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    least = least if low is None else max(low, least)
    most = most if high is None else min(high, most)
    return lambda numbers: np.minimum(np.maximum(numbers, least), most)
