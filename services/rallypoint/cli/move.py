"""`rallypoint move <room>`: have one room go on at another node; players notice nothing."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from rallypoint.cli import datadir, drain

CALL_S = 60.0


def run(arguments: list[str]) -> int:
    """Move it; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    address = parsed.fleet or datadir.fact(parsed.data_dir.absolute(), "fleet")
    return asyncio.run(_move(address, parsed))


def parser() -> argparse.ArgumentParser:
    """The options of `move`."""
    found = argparse.ArgumentParser(
        prog="rallypoint move", description="Have a room go on at another node."
    )
    found.add_argument("room", help="its id")
    found.add_argument("--to", default="", metavar="NODE", help="where to (fleet chooses)")
    drain.add_address(found)
    return found


async def _move(address: str, parsed: argparse.Namespace) -> int:
    from rallypoint.internal.v1 import fleet_admin_pb2 as admin
    from rallypoint.internal.v1 import fleet_admin_pb2_grpc
    from rallypoint.kit import rpc

    async with rpc.channel(address, name="cli") as channel, rpc.calling():
        stub: Any = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
        request = admin.MoveRoomRequest(room_id=parsed.room, node_id=parsed.to)
        moved = await stub.MoveRoom(request, timeout=CALL_S)
    print(f"{parsed.room} runs at {moved.node_id}, epoch {moved.epoch}, after {moved.gap_ms} ms")
    return 0
