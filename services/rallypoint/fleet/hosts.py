"""Calls to room nodes: one channel per address, closed when no node has it any more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from rallypoint.fleet.domain.nodes import Node
from rallypoint.internal.v1 import (
    room_host_pb2,
    room_host_pb2_grpc,
    room_transfer_pb2,
    room_transfer_pb2_grpc,
)
from rallypoint.kit import rpc

PING_TIMEOUT_S = 1.0
CLOSE_TIMEOUT_S = 2.0


class _Link:
    """A channel with its stubs, which cost as much to make as a call does."""

    def __init__(self, address: str) -> None:
        self.channel = rpc.channel(address, name="fleet")
        self.rooms: room_host_pb2_grpc.RoomHostServiceAsyncStub = (
            room_host_pb2_grpc.RoomHostServiceStub(self.channel)
        )
        self.transfers: room_transfer_pb2_grpc.RoomTransferServiceAsyncStub = (
            room_transfer_pb2_grpc.RoomTransferServiceStub(self.channel)
        )
        self.calls = 0


class Hosts:
    """Channels to the nodes."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def _link(self, node: Node) -> _Link:
        link = self._links.get(node.address)
        if link is None:
            link = self._links[node.address] = _Link(node.address)
        return link

    @contextlib.asynccontextmanager
    async def _calling(self, node: Node) -> AsyncIterator[_Link]:
        """Lend a link; calls inside raise our errors."""
        link = self._link(node)
        link.calls += 1
        try:
            async with rpc.calling():
                yield link
        finally:
            link.calls -= 1

    @property
    def addresses(self) -> frozenset[str]:
        """Where channels lead."""
        return frozenset(self._links)

    async def migrate(
        self, node: Node, request: room_transfer_pb2.MigrateRoomRequest, *, timeout_s: float
    ) -> room_transfer_pb2.MigrateRoomResponse:
        """Have a node move one of its rooms away; raises as `create` does."""
        async with self._calling(node) as link:
            return await link.transfers.MigrateRoom(request, timeout=timeout_s)

    async def set_draining(self, node: Node, *, draining: bool, within_ms: int = 0) -> int:
        """Have a node begin or end a drain; the rooms it has. Raises as `create` does."""
        request = room_transfer_pb2.SetDrainingRequest(draining=draining, within_ms=within_ms)
        async with self._calling(node) as link:
            reply = await link.transfers.SetDraining(request, timeout=CLOSE_TIMEOUT_S)
        return reply.rooms

    async def retire(self, node: Node, *, epoch: int) -> None:
        """Have a fenced, empty node agree to its end. FailedPrecondition NODE_OCCUPIED when it has
        rooms after all, Aborted EPOCH_STALE for a leader that is none any more."""
        request = room_transfer_pb2.RetireRequest(incarnation=node.incarnation, epoch=epoch)
        async with self._calling(node) as link:
            await link.transfers.Retire(request, timeout=CLOSE_TIMEOUT_S)

    async def unretire(self, node: Node, *, epoch: int) -> None:
        """Have a node take rooms again that had agreed to its end; raises as `retire` does."""
        request = room_transfer_pb2.UnretireRequest(incarnation=node.incarnation, epoch=epoch)
        async with self._calling(node) as link:
            await link.transfers.Unretire(request, timeout=CLOSE_TIMEOUT_S)

    async def create(
        self, node: Node, request: room_host_pb2.CreateRoomRequest, *, timeout_s: float
    ) -> room_host_pb2.CreateRoomResponse:
        """Have a node make a room; raises the node's error, or Unavailable, DeadlineExceeded."""
        async with self._calling(node) as link:
            return await link.rooms.CreateRoom(request, timeout=timeout_s)

    async def restore(
        self, node: Node, request: room_host_pb2.RestoreRoomRequest, *, timeout_s: float
    ) -> None:
        """Have a node go on with a room; raises as `create` does."""
        async with self._calling(node) as link:
            # A process that was just started may listen where we lately found nobody.
            await link.rooms.RestoreRoom(request, timeout=timeout_s, wait_for_ready=True)

    async def close_room(self, node: Node, room_id: str, reason: str, *, max_epoch: int) -> None:
        """Have a node end a room, if its epoch is not above this; raises as `create` does."""
        request = room_host_pb2.CloseRoomRequest(
            room_id=room_id, reason=reason, max_epoch=max_epoch
        )
        async with self._calling(node) as link:
            await link.rooms.CloseRoom(request, timeout=CLOSE_TIMEOUT_S)

    async def ping(self, node: Node) -> str:
        """Return the incarnation that answers at the node's address; raises as `create` does.

        One that stands still is pinged once more: it goes on when it knows that we know.
        """
        request = room_host_pb2.PingRequest()
        async with self._calling(node) as link:
            reply = await link.rooms.Ping(request, timeout=PING_TIMEOUT_S)
            if reply.frozen:
                request.frozen = reply.frozen
                reply = await link.rooms.Ping(request, timeout=PING_TIMEOUT_S)
        return reply.incarnation

    async def keep_only(self, addresses: Collection[str]) -> None:
        """Close the channels to all other addresses, but those with calls: these would not fail but
        be cancelled, with whoever waits for them. They end by their own limits."""
        for address in self._links.keys() - set(addresses):
            if not self._links[address].calls:
                await self._links.pop(address).channel.close()

    async def close(self) -> None:
        """Close all channels."""
        while self._links:
            await self._links.popitem()[1].channel.close()
