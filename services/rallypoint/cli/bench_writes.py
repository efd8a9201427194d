"""The part of `rallypoint bench fleet` that counts what a match costs etcd.

A real API server (KUBECONFIG), our operator and allocator as processes, and a room node for each
pod: no kubelet runs here, so this process says of a pod that it runs. Matches are asked for at a
steady rate and end after a while, so that most servers are full, as packing has it: that is when
rooms that come and go make the most edges.

etcd_writes_per_match   revisions of etcd while matches are played, less those of as long a time in
                        which none are (leases and the API server's own), by the matches that ended
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_cluster, brokers, ports
from rallypoint.cli.bench_claims import at_rate
from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.operator.kinds import PODS
from rallypoint.internal.v1 import allocation_pb2 as allocation
from rallypoint.internal.v1 import allocation_pb2_grpc, room_host_pb2, room_host_pb2_grpc
from rallypoint.kit import errors, names, rpc
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.transport import Transport

PROMISE = {"etcd_writes_per_match": 2.0}
SET = "bench"
SERVERS = 4
ROOMS_EACH = 8
RATE = 2.5
"""Matches a second; with `LASTS_S` three quarters of all slots are used."""
LASTS_S = 10.0
IDLE_S = 20.0
START_S = 60.0
"""How long servers may take to be ready."""
LEVEL_S = LASTS_S + 2.0
"""After this as many matches end as begin."""


class Cast:
    """Runs what would run in a cluster: services, and a room node for each pod."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._running: list[subprocess.Popen[bytes]] = []
        self._pods: set[str] = set()

    def start(self, name: str, **environment: str) -> None:
        """Run a service of ours."""
        given = {"RALLYPOINT_METRICS_PORT": "0", "RALLYPOINT_GRPC_PORT": "0", **environment}
        log = self._folder / f"{name}-{len(self._running)}.log"
        with log.open("wb") as sink:
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "rallypoint", name],
                    env={**self._environment, **given}, stdout=sink, stderr=sink,
                )
            )  # fmt: skip

    def stop(self) -> None:
        """End all, the last one first."""
        for one in reversed(self._running):
            one.terminate()
        for one in self._running:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()

    async def play(self, transport: Transport, namespace: str) -> None:
        """Have new pods run, for ever."""
        pods = Api(transport, PODS, manager="bench-kubelet")
        while True:
            for pod in await pods.list(Scope(namespace)):
                if pod.metadata.uid not in self._pods:
                    self._pods.add(pod.metadata.uid)
                    meta = pod.metadata
                    self.start(
                        "room-state", RALLYPOINT_NODE_ID=meta.name, RALLYPOINT_SET=SET,
                        RALLYPOINT_POD_UID=meta.uid, RALLYPOINT_ROOM_CAPACITY=str(ROOMS_EACH),
                    )  # fmt: skip
                    status = {"phase": "Running", "podIP": "127.0.0.1"}
                    await pods.merge_patch(
                        meta.name, {"status": status}, namespace=namespace, subresource="status"
                    )
            await asyncio.sleep(0.2)


async def measure(settings: ClusterConfig, seconds: float) -> dict[str, Any]:
    """Return the figure, and what was written."""
    fleet_port = ports.free_one()
    with tempfile.TemporaryDirectory(prefix="rallypoint-writes-") as name:
        folder = Path(name)
        both = brokers.Brokers(folder / "brokers")
        both.start()
        try:
            async with (
                Transport(settings) as transport,
                bench_cluster.namespace(transport) as namespace,
            ):
                cast = Cast(folder, {
                    "RALLYPOINT_NATS_URL": both.nats.url, "RALLYPOINT_REDIS_URL": both.redis.url,
                    "RALLYPOINT_WATCH_NAMESPACE": namespace, "RALLYPOINT_OWN_NAMESPACE": namespace,
                    "RALLYPOINT_MIRROR_NAMESPACE": namespace,
                })  # fmt: skip
                try:
                    cast.start("fleet", RALLYPOINT_GRPC_PORT=str(fleet_port))
                    cast.start("operator")
                    return await _measure(transport, cast, namespace, fleet_port, seconds)
                finally:
                    await asyncio.to_thread(cast.stop)
        finally:
            both.stop()


async def _measure(
    transport: Transport, cast: Cast, namespace: str, fleet_port: int, seconds: float
) -> dict[str, Any]:
    servers = Api(transport, resources.GAME_SERVERS, manager="rallypoint-bench")
    await _apply_set(transport, namespace)
    playing = asyncio.create_task(cast.play(transport, namespace), name="bench.kubelet")
    try:
        await _ready(servers, namespace)
        async with rpc.channel(f"127.0.0.1:{fleet_port}", name="bench") as channel:
            stub = allocation_pb2_grpc.AllocationServiceStub(channel)
            idle = await _writes(servers, namespace, IDLE_S)
            async with _matches(stub) as players:
                await asyncio.sleep(LEVEL_S)
                before = players.ended
                found = await _writes(servers, namespace, seconds)
                ended = players.ended - before
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    extra = found - idle / IDLE_S * seconds
    return {
        "etcd_writes_per_match": round(extra / max(1, ended), 2),
        "writes": {
            "servers": SERVERS,
            "rooms_each": ROOMS_EACH,
            "matches_per_s": RATE,
            "lasting_s": LASTS_S,
            "ended": ended,
            "refused": players.refused,
            "revisions": found,
            "idle_per_s": round(idle / IDLE_S, 2),
        },
    }


async def _apply_set(transport: Transport, namespace: str) -> None:
    """A set whose pods no scheduler of the cluster looks at."""
    pod = {
        "schedulerName": "rallypoint-bench",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "rooms", "image": "none"}],
    }
    spec = {
        "replicas": SERVERS,
        "capacity": {"rooms": ROOMS_EACH},
        "template": {"spec": {"pod": {"spec": pod}}},
    }
    sets = Api(transport, resources.GAME_SERVER_SETS, manager="rallypoint-bench")
    await sets.apply(SET, {"spec": spec}, namespace=namespace)


async def _ready(servers: Api[GameServer], namespace: str) -> None:
    async with asyncio.timeout(START_S):
        while True:
            found = await servers.list(Scope(namespace))
            ready = [one for one in found if one.status and one.status.phase == "Ready"]
            if len(ready) == SERVERS:
                return
            await asyncio.sleep(0.2)


async def _writes(servers: Api[GameServer], namespace: str, seconds: float) -> int:
    """How many revisions etcd makes in a time."""
    before = await _revision(servers, namespace)
    await asyncio.sleep(seconds)
    return await _revision(servers, namespace) - before


async def _revision(servers: Api[GameServer], namespace: str) -> int:
    """The revision that etcd is at: that of a list that was read just now."""
    async for page in servers.pages(Scope(namespace)):
        return int(page.version)
    raise AssertionError("a list has a page")


class Players:
    """Matches that begin and end."""

    def __init__(self, fleet: allocation_pb2_grpc.AllocationServiceAsyncStub) -> None:
        self._fleet = fleet
        self.ended = 0
        self.refused: dict[str, int] = {}
        self._random = random.Random(1)
        self.addresses: dict[str, str] = {}
        self._channels = contextlib.AsyncExitStack()

    async def match(self) -> None:
        """One match."""
        request = allocation.AllocateRequest(
            request_id=names.new_id(),
            set=SET,
            game="tictactoe",
            players=[allocation.SeatRequest(player_id=name) for name in ("a", "b")],
        )
        try:
            async with rpc.calling():
                made = await self._fleet.Allocate(request)
            await asyncio.sleep(LASTS_S * self._random.uniform(0.5, 1.5))
            ended = room_host_pb2.CloseRoomRequest(room_id=made.room_id, reason="BENCH")
            async with rpc.calling(), rpc.channel(self.addresses[made.node_id], name="b") as node:
                await room_host_pb2_grpc.RoomHostServiceStub(node).CloseRoom(ended)
        except errors.RallypointError as error:
            self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            return
        self.ended += 1


@contextlib.asynccontextmanager
async def _matches(
    fleet: allocation_pb2_grpc.AllocationServiceAsyncStub,
) -> AsyncIterator[Players]:
    """Have matches begin at a steady rate while inside."""
    players = Players(fleet)
    nodes = (await fleet.ListNodes(allocation.ListNodesRequest())).nodes
    players.addresses = {node.node_id: node.address for node in nodes}
    async with asyncio.TaskGroup() as group:
        beginning = group.create_task(
            at_rate(RATE, 3600.0, lambda _: group.create_task(players.match()))
        )
        yield players
        beginning.cancel()
