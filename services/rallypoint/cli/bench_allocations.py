"""The part of `rallypoint bench fleet` that allocates: rooms really made, on real room nodes.

A fleet, two room nodes and both brokers, as `rallypoint up` runs them. Matches of two are asked for
at a steady rate, whoever is late; each room is closed a second after it was made, as a match that
ends. allocate_ms is from the planned moment to the seats; sync_ms is how long the brokers' disk
takes meanwhile to sync a little: NATS does that each second, and who stores something waits.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_run, child, plan, ports, stack
from rallypoint.cli.bench_claims import at_rate, percentiles
from rallypoint.internal.v1 import allocation_pb2 as allocation
from rallypoint.internal.v1 import allocation_pb2_grpc, room_host_pb2, room_host_pb2_grpc
from rallypoint.kit import errors, names, rpc

PROMISE = {"allocate_p99_ms": 50.0}
NODES = 2
ROOMS_EACH = 256
GAME = "tictactoe"
LASTS_S = 1.0
WARM_UP_S = 2.0
SYNC_EVERY_S = 0.2
SYNC_BYTES = 16 * 1024


class Players:
    """Who asks for rooms."""

    def __init__(
        self,
        fleet: allocation_pb2_grpc.AllocationServiceAsyncStub,
        hosts: Mapping[str, room_host_pb2_grpc.RoomHostServiceAsyncStub],
    ) -> None:
        self._fleet = fleet
        self._hosts = hosts
        self.times: list[float] = []
        self.failed: dict[str, int] = {}

    async def match(self, planned: float) -> None:
        """Have a room made, and end it."""
        request = allocation.AllocateRequest(
            request_id=names.new_id(),
            set="local",
            game=GAME,
            players=[allocation.SeatRequest(player_id=name) for name in ("a", "b")],
        )
        try:
            async with rpc.calling():
                made = await self._fleet.Allocate(request)
        except errors.RallypointError as error:
            self.failed[error.reason] = self.failed.get(error.reason, 0) + 1
            return
        self.times.append(time.perf_counter() - planned)
        assert len(made.seats) == len(request.players)
        await asyncio.sleep(LASTS_S)
        ended = room_host_pb2.CloseRoomRequest(room_id=made.room_id, reason="BENCH")
        await self._hosts[made.node_id].CloseRoom(ended)


async def measure(seconds: float, rate: float) -> dict[str, Any]:
    """Return the figures of whole allocations."""
    with tempfile.TemporaryDirectory(prefix="rallypoint-allocations-") as folder:
        wish = plan.Wish(
            data_dir=Path(folder), web_port=ports.free_one(), room_nodes=NODES,
            room_capacity=ROOMS_EACH, kinds=("fleet", "room-state"),
        )  # fmt: skip
        async with stack.Stack(wish) as running:
            for pid in bench_run.pids_of(running).values():
                bench_run.favor(pid)
            return await _measure(running, Path(folder), seconds, rate)


async def _measure(
    running: stack.Stack, folder: Path, seconds: float, rate: float
) -> dict[str, Any]:
    async with rpc.channel(running.address("fleet/grpc"), name="bench") as channel:
        fleet = allocation_pb2_grpc.AllocationServiceStub(channel)
        nodes = await _nodes(fleet)
        channels = [rpc.channel(node.address, name="bench") for node in nodes]
        hosts = {
            node.node_id: room_host_pb2_grpc.RoomHostServiceStub(one)
            for node, one in zip(nodes, channels, strict=True)
        }
        try:
            await _play(Players(fleet, hosts), WARM_UP_S, rate / 4)
            players, before = Players(fleet, hosts), _cpu(running)
            syncs = asyncio.create_task(asyncio.to_thread(_syncs, folder, seconds), name="syncs")
            await _play(players, seconds, rate)
            spent = {name: cpu - before[name] for name, cpu in _cpu(running).items()}
        finally:
            for one in channels:
                await one.close()
    count = max(1, len(players.times))
    return {
        "allocate_ms": percentiles(players.times or [float("nan")]),
        "sync_ms": percentiles(await syncs),
        "allocations": {
            "offered_per_s": rate,
            "done": len(players.times),
            "failed": players.failed,
            "room_nodes": NODES,
            "game": GAME,
            "cpu_us_each": {name: round(1e6 * cpu / count) for name, cpu in spent.items()},
        },
    }


def _syncs(folder: Path, seconds: float) -> list[float]:
    """How long the disk took each time to sync what was just written there."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    with (folder / "synced").open("wb", buffering=0) as file:
        while (started := time.perf_counter()) < until:
            file.write(bytes(SYNC_BYTES))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
            time.sleep(SYNC_EVERY_S)
    return times


async def _nodes(
    fleet: allocation_pb2_grpc.AllocationServiceAsyncStub,
) -> list[allocation.Node]:
    async with asyncio.timeout(stack.START_S):
        while True:
            found = (await fleet.ListNodes(allocation.ListNodesRequest())).nodes
            if len(found) == NODES:
                return list(found)
            await asyncio.sleep(0.1)


async def _play(players: Players, seconds: float, rate: float) -> None:
    async with asyncio.TaskGroup() as matches:
        await at_rate(rate, seconds, lambda at: matches.create_task(players.match(at)))


def _cpu(running: stack.Stack) -> dict[str, float]:
    return {name: child.usage(running.pid(name)).cpu_s for name in running.names}
