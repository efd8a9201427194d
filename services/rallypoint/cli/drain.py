"""`rallypoint drain <node>`: empty a room node of the running stack; its matches go on elsewhere.

Players notice nothing. Prints how far it is until no room is left; exit code 1 when that takes too
long. `--undo` has the node take rooms again.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from rallypoint.cli import datadir

POLL_S = 0.25
CALL_S = 5.0


def run(arguments: list[str]) -> int:
    """Drain, or undo it; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    address = parsed.fleet or datadir.fact(parsed.data_dir.absolute(), "fleet")
    return asyncio.run(_undo(address, parsed) if parsed.undo else _drain(address, parsed))


def parser() -> argparse.ArgumentParser:
    """The options of `drain`."""
    found = argparse.ArgumentParser(
        prog="rallypoint drain", description="Empty a room node; its matches go on elsewhere."
    )
    found.add_argument("node", help="its id, such as local-1")
    found.add_argument("--undo", action="store_true", help="have it take rooms again")
    found.add_argument(
        "--within",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds to wait, also for games that finish their match instead (%(default)s)",
    )
    add_address(found)
    return found


def add_address(found: argparse.ArgumentParser) -> None:
    """The options that say which stack is meant."""
    datadir.add_option(found)
    found.add_argument("--fleet", default="", metavar="HOST:PORT", help="fleet, if elsewhere")


async def _undo(address: str, parsed: argparse.Namespace) -> int:
    from rallypoint.internal.v1 import fleet_admin_pb2 as admin
    from rallypoint.internal.v1 import fleet_admin_pb2_grpc
    from rallypoint.kit import rpc

    async with rpc.channel(address, name="cli") as channel, rpc.calling():
        stub: Any = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
        await stub.UndrainNode(admin.UndrainNodeRequest(node_id=parsed.node), timeout=CALL_S)
    print(f"{parsed.node} takes rooms again")
    return 0


async def _drain(address: str, parsed: argparse.Namespace) -> int:
    from rallypoint.internal.v1 import fleet_admin_pb2 as admin
    from rallypoint.internal.v1 import fleet_admin_pb2_grpc
    from rallypoint.kit import rpc

    async with rpc.channel(address, name="cli") as channel, rpc.calling():
        stub: Any = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
        request = admin.DrainNodeRequest(
            node_id=parsed.node, within_ms=max(1, round(parsed.within * 1000))
        )
        rooms = (await stub.DrainNode(request, timeout=CALL_S)).rooms
        print(f"{parsed.node} takes no more rooms; it has {rooms}")
        return await _watch(stub, parsed)


async def _watch(stub: Any, parsed: argparse.Namespace) -> int:
    """Print what changes until the node is empty or the time is over."""
    from rallypoint.internal.v1 import fleet_admin_pb2 as admin

    told = ""
    end = asyncio.get_running_loop().time() + parsed.within
    while True:
        request = admin.GetDrainRequest(node_id=parsed.node)
        state = await stub.GetDrain(request, timeout=CALL_S)
        if state.rooms == 0:
            print(f"{parsed.node} is empty")
            return 0
        line = f"{state.rooms} left, {state.finishing} finish there"
        if state.last_problem:
            line += f"; the last move that failed: {state.last_problem}"
        if line != told:
            told = line
            print(line)
        if asyncio.get_running_loop().time() >= end:
            print(f"{parsed.node} still has {state.rooms}: `rallypoint drain` again goes on")
            return 1
        await asyncio.sleep(POLL_S)
