"""Rings of inputs in C; only there where they could be compiled."""

from collections.abc import Sequence

from rallypoint.games.schema import Array

Column = tuple[int, int, Array, Array | None, float, float, float]

class Rings:
    refused: int
    def __init__(
        self,
        count: int,
        idle_zero: bool,
        newest: Array,
        applied: Array,
        fresh: Array,
        columns: tuple[Column, ...],
        zeroed: tuple[Array, ...],
        /,
    ) -> None: ...
    def offer(self, seat: int, first_seq: int, inputs: Sequence[bytes], /) -> None: ...
    def take(self) -> None: ...
    def drop(self, seat: int, /) -> None: ...
    def waiting(self, seat: int, /) -> list[tuple[int, bytes]]: ...
    def wait(self, seat: int, seq: int, data: bytes, /) -> None: ...
