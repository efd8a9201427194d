"""The busy part of an Attach, in C where that was compiled: inputs coming in, frames going out.

Without C all fields of a request are parsed by protobuf (`service`), and `responses` joins frames.
"""

from typing import TYPE_CHECKING, Any

from rallypoint.games import rings
from rallypoint.games.engine import RoomTable
from rallypoint.room_state.domain import responses

if TYPE_CHECKING:
    from rallypoint.room_state import _attach

try:
    if not rings.COMPILED:
        raise ImportError("not wanted")
    from rallypoint.room_state import _attach
except ImportError:
    COMPILED = False
else:
    COMPILED = True


def door_of(table: RoomTable, slot: int) -> "_attach.Door | None":
    """The way of inputs into a room, for `Doors`; None when it is the long one."""
    native = table.rings.native
    if not COMPILED or native is None:
        return None
    seats = table.definition.seats
    return _attach.Door(native, slot * seats, seats, table.rings.heard.words)


class Doors:
    """The doors of a node's rooms by id: none without C."""

    def __init__(self) -> None:
        self._native = _attach.Doors() if COMPILED else None

    def put(self, room_id: str, door: Any) -> None:
        """A room's inputs come in by a door, or by none."""
        if self._native is not None and door is not None:
            self._native.put(room_id, door)

    def remove(self, room_id: str, door: Any) -> None:
        """Not by that door any more."""
        if self._native is not None and door is not None:
            self._native.remove(room_id, door)

    def take_inputs(self, data: bytes) -> bytes:
        """Hand the inputs of an encoded AttachRequest to their seats; what is left to do of it.
        ValueError for what is no such request."""
        return data if self._native is None else self._native.take_inputs(data)


def join_rows(rows: list[responses.Row], ticks: list[bytes], deltas: list[bytes]) -> bytes:
    """The same as `join_frames` for rooms whose clients are all in step."""
    if COMPILED:
        return _attach.join_rows(rows, ticks, deltas)
    return responses.join_rows(rows, ticks, deltas)


def join_frames(frames: list[responses.Frame]) -> bytes:
    """The frames of an encoded AttachResponse."""
    return _attach.join_frames(frames) if COMPILED else responses.join(frames)
