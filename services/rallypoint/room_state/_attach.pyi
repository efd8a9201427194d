"""Inputs and frames of an Attach in C; only there where it could be compiled."""

from collections.abc import Mapping
from typing import Any

from rallypoint.games._inputs import Rings
from rallypoint.games.schema import Array

class Door:
    def __init__(
        self, rings: Rings, first: int, seats: int, heard: Array | None = None, /
    ) -> None: ...
    def open(self, slot: int, generation: int, /) -> None: ...
    def shut(self, slot: int, /) -> None: ...

def take_inputs(data: bytes, rooms: Mapping[str, Any], /) -> bytes: ...
def join_rows(
    rows: list[tuple[bytes, int, int, bytes]], ticks: list[bytes], deltas: list[bytes], /
) -> bytes: ...
def join_frames(frames: list[Any], /) -> bytes: ...
