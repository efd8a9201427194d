"""The busy part of an Attach, in C where that was compiled: inputs coming in, frames going out.

Without C all fields of a request are parsed by protobuf (`service`), and `responses` joins frames.
"""

from collections.abc import Mapping
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
    """The way of inputs into a room, for `take_inputs`; None when it is the long one."""
    native = table.rings.native
    if not COMPILED or native is None:
        return None
    seats = table.definition.seats
    return _attach.Door(native, slot * seats, seats, table.rings.heard.words)


def take_inputs(data: bytes, rooms: Mapping[str, Any]) -> bytes:
    """Hand the inputs of an encoded AttachRequest to their seats; what is left to do of it.

    `rooms` has by id what has a `room` with a `door`. ValueError for what is no such request.
    """
    return _attach.take_inputs(data, rooms) if COMPILED else data


def join_rows(rows: list[responses.Row], ticks: list[bytes], deltas: list[bytes]) -> bytes:
    """The same for rooms whose clients are all in step."""
    if COMPILED:
        return _attach.join_rows(rows, ticks, deltas)
    return responses.join_rows(rows, ticks, deltas)


def join_frames(frames: list[responses.Frame]) -> bytes:
    """The frames of an encoded AttachResponse."""
    return _attach.join_frames(frames) if COMPILED else responses.join(frames)
