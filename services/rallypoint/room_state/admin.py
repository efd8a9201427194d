"""RoomAdminService: this node's rooms as an operator sees them, and the way to take a seat away.

Figures are read where they are; what belongs to a room is read and changed by its table's task,
between two ticks.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import grpc.aio
import numpy as np

from rallypoint.games.columns import Table
from rallypoint.games.room import Seat
from rallypoint.internal.v1 import room_admin_pb2, room_admin_pb2_grpc
from rallypoint.kit import errors
from rallypoint.room_state import schema_proto, seating
from rallypoint.room_state.hosted import HostedRoom
from rallypoint.room_state.node import Node
from rallypoint.room_state.runner import Placed
from rallypoint.room_state.still import ROOM_MOVING
from rallypoint.v1 import admin_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class RoomAdminService(room_admin_pb2_grpc.RoomAdminServiceServicer):
    """See protos/rallypoint/internal/v1/room_admin.proto."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen: dict[HostedRoom, tuple[float, int]] = {}
        """When a room's bytes were last asked for, and how many they were."""

    async def ListHostedRooms(
        self, request: room_admin_pb2.ListHostedRoomsRequest, context: Context
    ) -> room_admin_pb2.ListHostedRoomsResponse:
        """Tell the rooms."""
        placed = list(self._node.rooms.values())
        kept = {item.room for item in placed}
        self._seen = {room: seen for room, seen in self._seen.items() if room in kept}
        wanted = [item for item in placed if request.game in ("", item.room.identity.game)]
        return room_admin_pb2.ListHostedRoomsResponse(rooms=[self._figures(p) for p in wanted])

    async def InspectRoom(
        self, request: room_admin_pb2.InspectRoomRequest, context: Context
    ) -> room_admin_pb2.InspectRoomResponse:
        """Show a room."""
        placed = self._find(request.room_id)
        shown = await placed.runner.call(functools.partial(self._inspect, placed))
        return room_admin_pb2.InspectRoomResponse(room=shown)

    async def RemovePlayer(
        self, request: room_admin_pb2.RemovePlayerRequest, context: Context
    ) -> room_admin_pb2.RemovePlayerResponse:
        """Take a seat away."""
        placed = self._find(request.room_id)
        await placed.runner.call(functools.partial(_remove, placed, request))
        await self._node.keep(placed)
        return room_admin_pb2.RemovePlayerResponse()

    def _find(self, room_id: str) -> Placed:
        placed = self._node.rooms.get(room_id)
        if placed is None:
            raise errors.NotFound("ROOM_UNKNOWN", "no such room here")
        _check_place(placed)
        return placed

    def _figures(self, placed: Placed) -> admin_pb2.LiveRoom:
        room, meter = placed.room, placed.runner.meter
        identity, state = room.identity, room.state
        ticks = meter.recent() * 1e3
        tick = placed.runner.table.tick_of(room.slot)
        return admin_pb2.LiveRoom(
            room_id=identity.room_id,
            game=identity.game,
            queue=identity.queue,
            code=identity.code,
            node_id=self._node.settings.node_id,
            epoch=identity.epoch,
            connected=room.book.connected,
            players=room.book.taken,
            max_players=room.book.capacity,
            age_s=(tick - state.first_tick) * state.dt_s,
            tick=tick,
            tick_ms=float(ticks.mean()) if len(ticks) else 0.0,
            tick_p99_ms=float(np.percentile(ticks, 99)) if len(ticks) else 0.0,
            lag_ms=max(0.0, meter.late_s * 1e3),
            bytes_per_s=self._bytes_per_s(placed),
            locked=state.locked,
            metadata=dict(state.metadata),
        )

    def _bytes_per_s(self, placed: Placed) -> float:
        now, room = asyncio.get_running_loop().time(), placed.room
        frame_bytes = placed.runner.frame_bytes(room)
        before, sent = self._seen.get(room, (0.0, 0))
        self._seen[room] = (now, frame_bytes)
        if not before or now <= before:
            return 0.0
        return max(0.0, (frame_bytes - sent) / (now - before))  # it may have got another slot

    def _inspect(self, placed: Placed) -> admin_pb2.GetLiveRoomResponse:
        _check_place(placed)
        room, table = placed.room, placed.runner.table
        seats = [
            admin_pb2.LiveSeat(
                seat=schema_proto.seat(seat),
                state=room.book.state(seat.slot).name,
                input_seq=table.applied_seq(room.slot, seat.slot),
            )
            for seat in room.book.seats()
        ]
        tables = [_table(layout.table, placed) for layout in placed.runner.definition.layouts]
        return admin_pb2.GetLiveRoomResponse(room=self._figures(placed), seats=seats, tables=tables)


def _table(kind: type[Table], placed: Placed) -> admin_pb2.LiveTable:
    bound = placed.runner.table.arena.bind(kind, placed.room.slot)
    columns = [
        admin_pb2.LiveColumn(
            name=column.name,
            values=np.asarray(getattr(bound, column.name)).astype(np.float64).tolist(),
            hidden=column.kind is None,
        )
        for column in kind.columns
    ]
    return admin_pb2.LiveTable(name=kind.wire_name, columns=columns)


def _check_place(placed: Placed) -> None:
    """A room on its way to another node has no place in a table: nothing to see or change."""
    if placed.room.still is not None:
        raise ROOM_MOVING


def _remove(placed: Placed, request: room_admin_pb2.RemovePlayerRequest) -> None:
    _check_place(placed)
    room, slot = placed.room, request.slot
    seats: dict[int, Seat] = {seat.slot: seat for seat in room.book.seats()}
    if slot not in seats:
        raise errors.NotFound("SEAT_UNKNOWN", f"nobody has seat {slot}")
    if seats[slot].player_id == request.player_id:
        room.book.kick(slot)
        seating.leave(placed.runner.table, room, slot, request.reason or "KICKED")
    elif not room.book.is_kicked(request.player_id):
        raise errors.Aborted("SEAT_CHANGED", f"seat {slot} is another player's")
