"""AdminService: what runs on all nodes, looked into and ended by operators.

Fleet tells which nodes there are; each is asked for itself, and one that does not answer only lacks
its rooms in the answer. Every call is checked here, since the guard knows players only.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

import grpc.aio

from rallypoint.gateway import calls
from rallypoint.gateway.admin_access import Operators
from rallypoint.gateway.node_channels import NodeChannels
from rallypoint.gateway.rooms_registry import Locate
from rallypoint.internal.v1 import (
    allocation_pb2,
    allocation_pb2_grpc,
    room_admin_pb2,
    room_admin_pb2_grpc,
    room_host_pb2,
    room_host_pb2_grpc,
)
from rallypoint.kit import errors, names, rpc
from rallypoint.v1 import admin_pb2

log = logging.getLogger(__name__)

SERVICE = "/rallypoint.v1.AdminService/"
DEFAULT_LIMIT = 200
CALL_S = 2.0
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
Handler = Callable[..., Awaitable[object]]


class AdminApi:
    """The handlers; `locate` reads where a room runs."""

    def __init__(
        self,
        operators: Operators,
        fleet: grpc.aio.Channel,
        nodes: NodeChannels,
        *,
        locate: Locate,
    ) -> None:
        self._operators = operators
        self._fleet: allocation_pb2_grpc.AllocationServiceAsyncStub
        self._fleet = allocation_pb2_grpc.AllocationServiceStub(fleet)
        self._nodes = nodes
        self._locate = locate

    def methods(self) -> list[calls.Method]:
        """What the edges serve: nothing when there are no operators."""
        if not self._operators.exist:
            return []
        found = []
        for name, handler in (
            ("ListLiveRooms", self.rooms),
            ("GetLiveRoom", self.show),
            ("KickPlayer", self.kick),
            ("CloseRoom", self.close),
        ):
            request, response = (
                getattr(admin_pb2, f"{name}{kind}") for kind in ("Request", "Response")
            )
            checked = self._checked(handler)
            # Public to the guard: an operator has no player's session.
            found.append(calls.UnaryMethod(SERVICE + name, request, response, checked, public=True))
        return [*found]

    def _checked(self, handler: Handler) -> calls.UnaryHandler:
        async def checked(call: calls.Call, request: object) -> calls.Reply:
            await self._operators.check(call)
            answer: calls.Reply = await handler(call, request)  # type: ignore[assignment]
            return answer

        return checked

    async def rooms(
        self, call: calls.Call, request: admin_pb2.ListLiveRoomsRequest
    ) -> admin_pb2.ListLiveRoomsResponse:
        """All rooms, most players first."""
        async with rpc.calling():
            known = await self._fleet.ListNodes(allocation_pb2.ListNodesRequest(), timeout=CALL_S)
        answers = await asyncio.gather(
            *(self._rooms_of(node, request.game) for node in known.nodes)
        )
        rooms = [room for found in answers for room in found or ()]
        rooms.sort(key=lambda room: (-room.connected, room.room_id))
        nodes = [
            admin_pb2.LiveNode(
                node_id=node.node_id,
                capacity=node.capacity,
                rooms=len(found or ()),
                answers=found is not None,
            )
            for node, found in zip(known.nodes, answers, strict=True)
        ]
        limit = request.limit or DEFAULT_LIMIT
        return admin_pb2.ListLiveRoomsResponse(
            rooms=rooms[:limit], nodes=nodes, total_rooms=len(rooms)
        )

    async def _rooms_of(
        self, node: allocation_pb2.Node, game: str
    ) -> list[admin_pb2.LiveRoom] | None:
        stub = room_admin_pb2_grpc.RoomAdminServiceStub(self._nodes.get(node.address))
        wanted = room_admin_pb2.ListHostedRoomsRequest(game=game)
        try:
            async with rpc.calling():
                return [*(await stub.ListHostedRooms(wanted, timeout=CALL_S)).rooms]
        except errors.RallypointError as error:
            log.info("node_silent", extra={"node": node.node_id, "reason": str(error)})
            return None

    async def show(
        self, call: calls.Call, request: admin_pb2.GetLiveRoomRequest
    ) -> admin_pb2.GetLiveRoomResponse:
        """One room from inside."""
        stub = room_admin_pb2_grpc.RoomAdminServiceStub(await self._node_of(request.room_id))
        wanted = room_admin_pb2.InspectRoomRequest(room_id=request.room_id)
        async with rpc.calling():
            return (await stub.InspectRoom(wanted, timeout=CALL_S)).room

    async def kick(
        self, call: calls.Call, request: admin_pb2.KickPlayerRequest
    ) -> admin_pb2.KickPlayerResponse:
        """Take a seat away."""
        reason = check_reason(request.reason or "KICKED")
        stub = room_admin_pb2_grpc.RoomAdminServiceStub(await self._node_of(request.room_id))
        wanted = room_admin_pb2.RemovePlayerRequest(
            room_id=request.room_id, slot=request.slot, reason=reason, player_id=request.player_id
        )
        async with rpc.calling():
            await stub.RemovePlayer(wanted, timeout=CALL_S)
        log.info("operator_kicked", extra={"room": request.room_id, "player": request.player_id})
        return admin_pb2.KickPlayerResponse()

    async def close(
        self, call: calls.Call, request: admin_pb2.CloseRoomRequest
    ) -> admin_pb2.CloseRoomResponse:
        """End a room."""
        reason = check_reason(request.reason or "CLOSED_BY_OPERATOR")
        stub = room_host_pb2_grpc.RoomHostServiceStub(await self._node_of(request.room_id))
        wanted = room_host_pb2.CloseRoomRequest(room_id=request.room_id, reason=reason)
        async with rpc.calling():
            await stub.CloseRoom(wanted, timeout=CALL_S)
        log.info("operator_closed", extra={"room": request.room_id})
        return admin_pb2.CloseRoomResponse()

    async def _node_of(self, room_id: str) -> grpc.aio.Channel:
        place = await self._locate(names.check_id(room_id, "room_id"))
        if place is None:
            raise errors.NotFound("ROOM_UNKNOWN", "there is no such room, or it has ended")
        return self._nodes.get(place.address)


def check_reason(reason: str) -> str:
    """The reason if it may be told to players, else InvalidArgument REASON_INVALID."""
    if not _REASON.fullmatch(reason):
        raise errors.InvalidArgument("REASON_INVALID", "a reason is UPPER_SNAKE, 64 at most")
    return reason
