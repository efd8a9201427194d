"""FleetAdminService: drains of nodes and moves of rooms, on request."""

from __future__ import annotations

from typing import Any

import grpc.aio

from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.draining import Drains
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.moving import Mover
from rallypoint.internal.v1 import fleet_admin_pb2 as admin
from rallypoint.internal.v1 import fleet_admin_pb2_grpc
from rallypoint.kit import errors, names
from rallypoint.kit.names import RoomId

Context = grpc.aio.ServicerContext[Any, Any]


class FleetAdminService(fleet_admin_pb2_grpc.FleetAdminServiceServicer):
    """See protos/rallypoint/internal/v1/fleet_admin.proto."""

    def __init__(self, *, mover: Mover, drains: Drains, hosts: Hosts, registry: Registry) -> None:
        self._mover = mover
        self._drains = drains
        self._hosts = hosts
        self._registry = registry

    async def DrainNode(
        self, request: admin.DrainNodeRequest, context: Context
    ) -> admin.DrainNodeResponse:
        """Have a node drain."""
        node = self._node(request.node_id)
        rooms = await self._hosts.set_draining(node, draining=True, within_ms=request.within_ms)
        return admin.DrainNodeResponse(rooms=rooms)

    async def UndrainNode(
        self, request: admin.UndrainNodeRequest, context: Context
    ) -> admin.UndrainNodeResponse:
        """Have a node take rooms again."""
        await self._hosts.set_draining(self._node(request.node_id), draining=False)
        return admin.UndrainNodeResponse()

    async def GetDrain(
        self, request: admin.GetDrainRequest, context: Context
    ) -> admin.GetDrainResponse:
        """Tell how far a drain is."""
        node = self._node(request.node_id)
        rooms, finishing, problem = await self._drains.left(node)
        return admin.GetDrainResponse(
            draining=node.draining, rooms=rooms, finishing=finishing, last_problem=problem
        )

    async def MoveRoom(
        self, request: admin.MoveRoomRequest, context: Context
    ) -> admin.MoveRoomResponse:
        """Move one room."""
        room_id = RoomId(names.check_id(request.room_id, "room_id"))
        if request.node_id:
            self._node(request.node_id)
        moved = await self._mover.move(room_id, to=request.node_id)
        return admin.MoveRoomResponse(node_id=moved.node_id, epoch=moved.epoch, gap_ms=moved.gap_ms)

    def _node(self, node_id: str) -> Node:
        for node in self._registry.alive():
            if node.node_id == node_id:
                return node
        known = ", ".join(node.node_id for node in self._registry.alive()) or "none"
        raise errors.NotFound("NODE_UNKNOWN", f"no node {node_id!r} lives; there are: {known}")
