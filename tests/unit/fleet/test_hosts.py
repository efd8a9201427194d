"""Channels to room nodes: closed when nobody has the address any more, never under a call."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from rallypoint.fleet.domain.nodes import Node
from rallypoint.fleet.hosts import Hosts
from rallypoint.internal.v1 import room_host_pb2
from rallypoint.kit import errors

NODE = Node("arena-0", "a", "", "arena", frozenset(), 8)


def test_a_call_outlives_that_its_node_is_given_up() -> None:
    async def scenario() -> None:
        hosts = Hosts()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            node, request = replace(NODE, address=address), room_host_pb2.CreateRoomRequest()
            call = asyncio.create_task(hosts.create(node, request, timeout_s=0.5), name="call")
            await asyncio.sleep(0.1)
            await hosts.keep_only(())
            assert hosts.addresses == {address}
            with pytest.raises(errors.DeadlineExceeded):
                await call
            await hosts.keep_only({address})
            assert hosts.addresses == {address}
            await hosts.keep_only(())
            assert not hosts.addresses

    asyncio.run(scenario())


def test_a_call_whose_channel_is_closed_fails_and_ends_no_worker() -> None:
    async def scenario() -> None:
        hosts = Hosts()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            node = replace(NODE, address=f"127.0.0.1:{silent.getsockname()[1]}")
            request = room_host_pb2.CreateRoomRequest()
            closed, cancelled = (
                asyncio.create_task(hosts.create(node, request, timeout_s=20), name=name)
                for name in ("closed", "cancelled")
            )
            await asyncio.sleep(0.1)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await hosts.close()
            with pytest.raises(errors.Unavailable, match="CHANNEL_CLOSED"):
                await closed

    asyncio.run(scenario())
