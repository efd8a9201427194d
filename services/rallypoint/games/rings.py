"""The rings that a process uses: in C where that was compiled, in Python elsewhere.

Both let a game see the same. `CompiledRings` keeps the arrays here and hands their memory to C,
which has what waits.
"""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rallypoint.games.columns import Column, Input
from rallypoint.games.inputs import InputRings
from rallypoint.games.schema import Array, Kind
from rallypoint.games.sections import PURE

if TYPE_CHECKING:
    from rallypoint.games import _inputs

try:
    if PURE:
        raise ImportError("not wanted")
    from rallypoint.games import _inputs
except ImportError:
    COMPILED = False
else:
    COMPILED = True

FLAG: Final = 0
"""What C calls a column of bool."""


class NoInput(Input):
    """Stands in for the input of a game that takes none."""


def make(kind: type[Input] | None, rooms: int, seats: int) -> InputRings:
    """The faster ones that are there."""
    kind = kind or NoInput
    if COMPILED and all(map(_plain, kind.sent())):
        return CompiledRings(kind, rooms, seats)
    return InputRings(kind, rooms, seats)


class CompiledRings(InputRings):
    """`offer` and `take` in C."""

    def __init__(self, kind: type[Input], rooms: int, seats: int) -> None:
        super().__init__(kind, rooms, seats)
        count = rooms * seats
        newest = self._newest = np.zeros(count, np.int64)
        columns = tuple(self._described(column) for column in kind.sent())
        zeroed = tuple(self._current.values())
        self.native = self._native = _inputs.Rings(
            count, kind.idle == "zero", newest, self.applied, self.fresh, columns, zeroed
        )
        self.offer = self.native.offer  # type: ignore[method-assign, assignment]  # one call less
        self.take = self.native.take  # type: ignore[method-assign]

    @property
    def refused(self) -> int:
        """Inputs of a wrong size or from far ahead."""
        return self._native.refused

    @refused.setter
    def refused(self, count: int) -> None:
        """Counted in C, from 0."""

    def _wait(self, seat: int, seq: int, data: bytes) -> None:
        self._native.wait(seat, seq, data)

    def _waiting(self, seat: int) -> list[tuple[int, bytes]]:
        return self._native.waiting(seat)

    def _drop(self, seat: int) -> None:
        self._native.drop(seat)

    def _described(self, column: Column) -> "_inputs.Column":
        spec = column.spec()
        current, held = self._current[column.name], self._held.get(column.name)
        if held is not None:
            return FLAG, spec.kind.width, current, held, 0.0, 0.0, 0.0
        if spec.kind.quantized:
            span = spec.maximum - spec.minimum
            return spec.kind, spec.kind.width, current, None, spec.minimum, span, 0.0
        low, high = _bounds(column, spec.kind)
        return spec.kind, spec.kind.width, current, None, low, high, float(column.low or 0)


def _bounds(column: Column, kind: Kind) -> tuple[float, float]:
    least, most = -math.inf, math.inf
    if kind is not Kind.F32:
        limits = np.iinfo(kind.wire)
        least, most = float(limits.min), float(limits.max)
    low = least if column.low is None else max(column.low, least)
    high = most if column.high is None else min(column.high, most)
    return float(low), float(high)


def _plain(column: Column) -> bool:
    """Whether its numbers lie in memory as C expects."""
    spec = column.spec()
    if column.dtype == np.bool_:
        return spec.kind is Kind.U8
    bounds: list[Any] = [bound for bound in (column.low, column.high) if bound is not None]
    whole = spec.kind is Kind.F32 or all(float(bound).is_integer() for bound in bounds)
    expected: Array = np.zeros(0, np.float64 if spec.kind.quantized else spec.kind.wire)
    return column.dtype == expected.dtype and (spec.kind.quantized or whole)
