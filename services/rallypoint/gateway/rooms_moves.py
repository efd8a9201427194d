"""A room that moves to another node while it is played, as its gateways see it (docs/migration.md).

    ── HOLD ──▶ held: inputs, messages, joins and leaves wait; the link to the next node is opened
                  ├── MOVED ───▶ streams ask for their seats there, what was held follows
                  ├── STAYED ──▶ what was held goes to the node it was meant for
                  └── the link broke ──▶ as after any break: the ownership record decides

Client streams see keyframes of a higher epoch and nothing else.
"""

from __future__ import annotations

import asyncio
import logging

from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_registry import Place, Registry
from rallypoint.gateway.rooms_stream import Hold, Room, release
from rallypoint.internal.v1 import room_host_pb2 as host

log = logging.getLogger(__name__)


class Moves:
    """What nodes say about moves. Nothing here waits."""

    def __init__(self, board: Board, registry: Registry) -> None:
        self._board = board
        self._registry = registry

    def take(self, room: Room, said: host.RoomMove) -> None:
        """Act on one word about a room that the speaking node carries."""
        match said.phase:
            case host.ROOM_MOVE_PHASE_HOLD:
                self._hold(room, said.address)
            case host.ROOM_MOVE_PHASE_MOVED:
                self._moved(room, Place(said.address, said.epoch))
            case host.ROOM_MOVE_PHASE_STAYED:
                self._stayed(room)

    def _hold(self, room: Room, address: str) -> None:
        if room.hold is None:
            room.hold = Hold(asyncio.Event())
        if room.streams:
            self._registry.warm(address)

    def _moved(self, room: Room, place: Place) -> None:
        if place.epoch <= room.placed_epoch:
            return  # said again, of a move of before: the room has come back since
        log.info("room_moved", extra={"room": room.room_id, "node": place.address})
        room.refused.clear()
        self._registry.move(room, place)
        self._board.found(room)

    def _stayed(self, room: Room) -> None:
        refused, room.refused = room.refused, set()
        release(room, self._board.clock())
        if room.node is not None:
            for stream in refused:
                if stream.client in room.streams:
                    room.node.join(stream)
