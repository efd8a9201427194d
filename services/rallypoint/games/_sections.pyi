"""The encoder of sections in C; only there where it could be compiled."""

from collections.abc import Sequence

from rallypoint.games.schema import Array

Run = tuple[Array, int, int, float, tuple[float, ...], tuple[float, ...]]
Table = tuple[int, int, int, int, list[Run]]

class Encoder:
    def __init__(self, lanes: int, tables: list[Table], /) -> None: ...
    def deltas(self, lanes: int, /) -> list[bytes]: ...
    def keyframes(self, lanes: Sequence[int], /) -> list[bytes]: ...
    def forget(self, start: int, stop: int, /) -> None: ...
