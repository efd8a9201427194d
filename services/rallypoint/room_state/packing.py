"""Columns and inputs of rooms as encoded fields of EngineSnapshot, many rooms in one call.

They are nearly all of a snapshot. In C where that was compiled; `encoded` is the twin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from rallypoint.games import rings
from rallypoint.games.varints import varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rallypoint.games.engine import RoomTable
    from rallypoint.games.saved import SavedInputs

try:
    if not rings.COMPILED:
        raise ImportError("not wanted")
    from rallypoint.room_state import _packing
except ImportError:
    COMPILED = False
else:
    COMPILED = True

COLUMNS_TAG: Final = b"\x22"
INPUTS_TAG: Final = b"\x4a"
once = varint.__wrapped__
"""`varint` without its memory, for numbers that never come again."""


class Packer(Protocol):
    """Packs rooms of one table."""

    def pack(self, slots: list[int], /) -> list[bytes]:
        """Columns and inputs of the rooms as they are now."""


def make(table: RoomTable) -> Packer:
    """The faster one that is there."""
    native = table.rings.native
    if not COMPILED or native is None:
        return PurePacker(table)
    return _packing.Packer(
        table.capacity,
        table.definition.seats,
        table.arena.pieces(),
        native,
        *table.rings.pieces(),
    )


class PurePacker:
    """The same in Python."""

    def __init__(self, table: RoomTable) -> None:
        self._table = table

    def pack(self, slots: list[int], /) -> list[bytes]:
        """Columns and inputs of the rooms as they are now."""
        seats, arena, waiting = self._table.definition.seats, self._table.arena, self._table.rings
        return [
            encoded(arena.room_bytes(slot), waiting.saved(slot * seats, seats)) for slot in slots
        ]


def encoded(columns: bytes, inputs: Sequence[SavedInputs]) -> bytes:
    """The fields by hand: a message per seat would cost more than all the rest."""
    fields = [b"%b%b%b" % (COLUMNS_TAG, varint(len(columns)), columns)]
    for seat in inputs:
        field = b"\x08%b\x10%b\x2a%b%b" % (
            once(seat.applied), once(seat.newest), varint(len(seat.current)), seat.current
        )  # fmt: skip
        if seat.waiting:
            seqs = b"".join([once(seq) for seq, _ in seat.waiting])
            field += b"\x1a" + varint(len(seqs)) + seqs
            field += b"".join([b"\x22" + varint(len(data)) + data for _, data in seat.waiting])
        fields.append(b"%b%b%b" % (INPUTS_TAG, varint(len(field)), field))
    return b"".join(fields)
