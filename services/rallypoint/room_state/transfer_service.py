"""RoomTransferService: moves of rooms between nodes, and the drain of this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from rallypoint.internal.v1 import room_transfer_pb2 as transfer
from rallypoint.internal.v1 import room_transfer_pb2_grpc
from rallypoint.kit import errors
from rallypoint.room_state.arrivals import Arrivals
from rallypoint.room_state.departures import Departures
from rallypoint.room_state.draining import Drain
from rallypoint.room_state.registration import Registration

if TYPE_CHECKING:
    from rallypoint.room_state.node import Node

Context = grpc.aio.ServicerContext[Any, Any]


class RoomTransferService(room_transfer_pb2_grpc.RoomTransferServiceServicer):
    """See protos/rallypoint/internal/v1/room_transfer.proto."""

    def __init__(
        self,
        node: Node,
        registration: Registration,
        *,
        drain: Drain,
        departures: Departures,
        arrivals: Arrivals,
    ) -> None:
        self._node = node
        self._drain = drain
        self._registration = registration
        self._departures = departures
        self._arrivals = arrivals

    async def MigrateRoom(
        self, request: transfer.MigrateRoomRequest, context: Context
    ) -> transfer.MigrateRoomResponse:
        """Move a room away."""
        return await self._departures.migrate(request)

    async def PrepareRoom(
        self, request: transfer.PrepareRoomRequest, context: Context
    ) -> transfer.PrepareRoomResponse:
        """Keep a place for a room."""
        await self._arrivals.prepare(request)
        return transfer.PrepareRoomResponse()

    async def TransferRoom(
        self, request: transfer.TransferRoomRequest, context: Context
    ) -> transfer.TransferRoomResponse:
        """Take a room in, still."""
        await self._arrivals.take(request)
        return transfer.TransferRoomResponse()

    async def StartRoom(
        self, request: transfer.StartRoomRequest, context: Context
    ) -> transfer.StartRoomResponse:
        """Let a room run."""
        await self._arrivals.start(request)
        return transfer.StartRoomResponse()

    async def AbandonRoom(
        self, request: transfer.AbandonRoomRequest, context: Context
    ) -> transfer.AbandonRoomResponse:
        """Drop a room that does not come."""
        self._arrivals.abandon(request)
        return transfer.AbandonRoomResponse()

    async def SetDraining(
        self, request: transfer.SetDrainingRequest, context: Context
    ) -> transfer.SetDrainingResponse:
        """Begin or end a drain."""
        if request.draining:
            await self._drain.begin(request.within_ms / 1000)
        else:
            self._drain.end()
        await self._registration.register()
        return transfer.SetDrainingResponse(rooms=len(self._node.rooms))

    async def Retire(
        self, request: transfer.RetireRequest, context: Context
    ) -> transfer.RetireResponse:
        """Agree to this process's end."""
        self._check_incarnation(request.incarnation)
        await self._node.retire(request.epoch)
        await self._registration.try_register()
        return transfer.RetireResponse(epoch=self._node.tenure.agreed_to)

    async def Unretire(
        self, request: transfer.UnretireRequest, context: Context
    ) -> transfer.UnretireResponse:
        """Stay after all."""
        self._check_incarnation(request.incarnation)
        self._node.tenure.lift(request.epoch)
        await self._registration.try_register()
        return transfer.UnretireResponse()

    def _check_incarnation(self, asked: str) -> None:
        if asked != self._registration.record.incarnation:
            raise errors.FailedPrecondition("INCARNATION_OTHER", "another process answers")
