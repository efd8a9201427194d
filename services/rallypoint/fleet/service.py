"""AllocationService over the allocator and the clean-up."""

from __future__ import annotations

import time
from typing import Any

import grpc.aio

from rallypoint.fleet.allocator import Allocator
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.cleanup import Cleanup
from rallypoint.fleet.domain.nodes import Registry
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc
from rallypoint.kit import errors, metrics, names
from rallypoint.kit.names import RoomId, SetName

NAME = "rallypoint.internal.v1.AllocationService"

Context = grpc.aio.ServicerContext[Any, Any]


class AllocationService(allocation_pb2_grpc.AllocationServiceServicer):
    """See protos/rallypoint/internal/v1/allocation.proto."""

    def __init__(
        self, *, allocator: Allocator, cleanup: Cleanup, claims: Claims, registry: Registry
    ) -> None:
        self._allocator = allocator
        self._cleanup = cleanup
        self._claims = claims
        self._registry = registry

    async def Allocate(
        self, request: allocation_pb2.AllocateRequest, context: Context
    ) -> allocation_pb2.AllocateResponse:
        """Place a room."""
        started, outcome = time.perf_counter(), "OK"
        try:
            return await self._allocator.allocate(request)
        except errors.RallypointError as error:
            outcome = error.reason
            raise
        finally:
            elapsed = time.perf_counter() - started
            metrics.FLEET_ALLOCATE_SECONDS.labels(outcome).observe(elapsed)

    async def Release(
        self, request: allocation_pb2.ReleaseRequest, context: Context
    ) -> allocation_pb2.ReleaseResponse:
        """Give a slot back."""
        set_name = SetName(names.check_name(request.set, "set"))
        room_id = RoomId(names.check_id(request.room_id, "room_id"))
        await self._cleanup.release(set_name, room_id)
        return allocation_pb2.ReleaseResponse()

    async def ListNodes(
        self, request: allocation_pb2.ListNodesRequest, context: Context
    ) -> allocation_pb2.ListNodesResponse:
        """Tell the nodes."""
        used: dict[str, int] = {}
        for set_name in self._registry.sets():
            used |= await self._claims.used(SetName(set_name))
        return allocation_pb2.ListNodesResponse(
            nodes=[
                allocation_pb2.Node(
                    node_id=node.node_id,
                    incarnation=node.incarnation,
                    address=node.address,
                    capacity=node.capacity,
                    claimed=used.get(node.place, 0),
                    alive=True,
                )
                for node in self._registry.alive()
            ]
        )
