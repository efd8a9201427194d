"""Rooms packed for snapshots in C; only there where it could be compiled."""

from rallypoint.games._inputs import Rings
from rallypoint.games.schema import Array

Arrays = tuple[tuple[Array, int], ...]

class Packer:
    def __init__(
        self,
        rooms: int,
        seats: int,
        runs: Arrays,
        rings: Rings,
        applied: Array,
        newest: Array,
        held: Arrays,
        /,
    ) -> None: ...
    def pack(self, slots: list[int], /) -> list[bytes]: ...
