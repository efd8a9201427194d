"""`rallypoint bench fleet`: what ten thousand GameServers cost, on a real API server.

    .venv/bin/python -m tests.support.kubernetes .venv/bin/rallypoint bench fleet --json

Uses the cluster of KUBECONFIG (the line above starts an API server for it) and a namespace of its
own, deleted at the end. This process writes; a fresh process per round measures, with the runtime
the operator is made of: an informer with three indexes and a handler that posts keys to a queue.

sync_s   from nothing to the whole list cached, indexed and handled
burst_s  it was away while every server changed once: from the watch's opening to the last event
rss_mb   the peak memory of that process, Python and all libraries included

`--parts` chooses: servers (the above), scale-up, leader, claims, allocations and writes (see
`bench_scale_up`, `bench_leader`, `bench_claims`, `bench_allocations`, `bench_writes`). Claims and
allocations need no cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from rallypoint.cli import (
    bench_allocations,
    bench_claims,
    bench_cluster,
    bench_leader,
    bench_run,
    bench_scale_up,
    bench_writes,
    machine,
)
from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer, GameServerSpec
from rallypoint.kube import config, errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.controller import Controller
from rallypoint.kube.informer import Informer
from rallypoint.kube.objects import ObjectMeta
from rallypoint.kube.transport import Transport

PROMISE = {"sync_s": 3.0, "rss_mb": 250.0, "burst_s": 2.0}
PARTS = ("servers", "scale-up", "leader", "claims", "allocations", "writes")
CLAIMS_PER_S = 1000.0
ALLOCATIONS_PER_S = 200.0
SETS = 10
NODES = 200
AT_ONCE = 16
INDEXES = {
    "set": lambda item: (item.spec.set_name,),
    "node": lambda item: (item.status.node_name if item.status else "",),
    "phase": lambda item: (item.status.phase if item.status else "",),
}


@dataclass(frozen=True, slots=True)
class Round:
    """What one fresh process measured."""

    sync_s: float
    sync_cpu_s: float
    burst_s: float
    burst_cpu_s: float
    rss_mb: float
    events: int


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    bench_run.prepare_process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_parts(parsed))
    print(json.dumps(result) if parsed.json else _text(result))
    return 0


async def _parts(parsed: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"promise": {}}
    for part in parsed.parts:
        match part:
            case "servers":
                settings = config.detect(os.environ, context=parsed.context)
                found = await _bench(settings, parsed.servers, parsed.rounds)
                promise = PROMISE
            case "scale-up":
                settings = config.detect(os.environ, context=parsed.context)
                async with _namespace(settings) as namespace:
                    found = await bench_scale_up.measure(settings, namespace, parsed.scale_up)
                promise = {}
            case "leader":
                settings = config.detect(os.environ, context=parsed.context)
                async with _namespace(settings) as namespace:
                    found = await bench_leader.measure(settings, namespace)
                promise = bench_leader.PROMISE
            case "claims":
                found = await bench_claims.measure(parsed.seconds, CLAIMS_PER_S)
                promise = bench_claims.PROMISE
            case "writes":
                settings = config.detect(os.environ, context=parsed.context)
                found = await bench_writes.measure(settings, max(30.0, 3 * parsed.seconds))
                promise = bench_writes.PROMISE
            case _:
                found = await bench_allocations.measure(parsed.seconds, ALLOCATIONS_PER_S)
                promise = bench_allocations.PROMISE
        report |= found | {"promise": report["promise"] | promise}
    return report | {"machine": machine.description()}


@asynccontextmanager
async def _namespace(settings: ClusterConfig) -> AsyncIterator[str]:
    async with (
        Transport(settings) as transport,
        bench_cluster.namespace(transport) as namespace,
    ):
        yield namespace


async def _bench(settings: ClusterConfig, servers: int, rounds: int) -> dict[str, Any]:
    async with (
        Transport(settings) as transport,
        bench_cluster.namespace(transport) as namespace,
    ):
        api = Api(transport, resources.GAME_SERVERS, manager="fleet-operator")
        try:
            begin = time.monotonic()
            await _for_all(servers, lambda n: _create(api, namespace, n))
            written_s = time.monotonic() - begin
            measured = [await _round(settings, api, namespace, servers) for _ in range(rounds)]
        finally:
            await _for_all(servers, lambda n: _delete(api, namespace, n))
    return _report(servers, measured, writes_per_s=2 * servers / written_s)


async def _round(
    settings: ClusterConfig, api: Api[GameServer], namespace: str, servers: int
) -> Round:
    """Have a fresh process sync, change everything behind its back, have it catch up."""
    spawning = multiprocessing.get_context("spawn")
    here, there = spawning.Pipe()
    child = spawning.Process(target=_measure, args=(settings, namespace, servers, there))
    await asyncio.to_thread(child.start)
    try:
        assert await asyncio.to_thread(here.recv) == "synced"
        rooms = secrets.randbelow(7) + 1
        versions: list[str] = []

        async def change(number: int) -> None:
            versions.append(await _change(api, namespace, number, rooms=rooms))

        await _for_all(servers, change)
        here.send(max(versions, key=int))
        result = await asyncio.to_thread(here.recv)
        assert isinstance(result, Round)
        return result
    finally:
        await asyncio.to_thread(child.join)


def _measure(settings: ClusterConfig, namespace: str, servers: int, parent: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_follow(settings, namespace, servers, parent))


async def _follow(
    settings: ClusterConfig, namespace: str, servers: int, parent: Connection
) -> None:
    async def nothing(_: str) -> None:
        return

    async with Transport(settings) as transport:
        api = Api(transport, resources.GAME_SERVERS, manager="fleet-operator")
        cache = Informer(api, Scope(namespace), indexes=INDEXES)
        controller: Controller[str] = Controller("bench", nothing)
        cache.on_change(lambda change: controller.add(change.present.spec.set_name))
        begin, cpu = time.monotonic(), time.process_time()
        await _while_running(cache, cache.wait_synced())
        sync_s, sync_cpu_s = time.monotonic() - begin, time.process_time() - cpu
        assert len(cache.lister) == servers
        parent.send("synced")
        version = await asyncio.to_thread(parent.recv)
        seen = cache.statistics().events
        begin, cpu = time.monotonic(), time.process_time()
        await _while_running(cache, cache.wait_version(version))
        burst_s, burst_cpu_s = time.monotonic() - begin, time.process_time() - cpu
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        events = cache.statistics().events - seen
        parent.send(Round(sync_s, sync_cpu_s, burst_s, burst_cpu_s, peak_mb, events))


async def _while_running(cache: Informer[GameServer], wait: Awaitable[None]) -> None:
    task = asyncio.create_task(cache.run(), name="informer")
    try:
        await wait
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _for_all(count: int, call: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def some(left: Iterable[int]) -> None:
        for number in left:
            await call(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some(numbers))


def _name(number: int) -> tuple[str, int]:
    return f"arena-{number % SETS}", number // SETS


async def _create(api: Api[GameServer], namespace: str, number: int) -> None:
    set_name, ordinal = _name(number)
    name = f"{set_name}-{ordinal}"
    labels = {
        "app.kubernetes.io/name": "room-state",
        "app.kubernetes.io/managed-by": "rallypoint",
        "rallypoint.dev/set": set_name,
    }
    meta = ObjectMeta(name=name, namespace=namespace, labels=labels)
    spec = GameServerSpec(set_name=set_name, ordinal=ordinal, revision=f"{set_name}-7d9f8b6c5")
    await api.create(GameServer(metadata=meta, spec=spec))
    await api.merge_patch(
        name, {"status": _status(name, number)}, namespace=namespace, subresource="status"
    )


def _status(name: str, number: int) -> dict[str, Any]:
    when = "2026-11-26T12:00:00Z"
    ready = {"status": "True", "reason": "Heartbeat", "lastTransitionTime": when}
    return {
        "phase": "Ready",
        "podName": name,
        "podUID": "6f1c8c0e-8a52-4c0a-9f6d-4f9d7f0b1a2c",
        "nodeName": f"node-{number % NODES}.example.internal",
        "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "ports": [{"name": "rooms", "port": 9090, "protocol": "TCP"}],
        "occupancy": {
            "rooms": 0, "players": 0, "capacityRooms": 8, "heartbeatTime": when, "epoch": 3,
        },
        "conditions": [{"type": "PodReady", **ready}, {"type": "Healthy", **ready}],
    }  # fmt: skip


async def _change(api: Api[GameServer], namespace: str, number: int, *, rooms: int) -> str:
    set_name, ordinal = _name(number)
    occupancy = {"rooms": rooms, "players": rooms * 8, "epoch": 3 + rooms}
    changed = await api.merge_patch(
        f"{set_name}-{ordinal}",
        {"status": {"phase": "Active", "occupancy": occupancy}},
        namespace=namespace,
        subresource="status",
    )
    return changed.metadata.resource_version


async def _delete(api: Api[GameServer], namespace: str, number: int) -> None:
    """Without a controller manager a namespace's end deletes nothing."""
    set_name, ordinal = _name(number)
    try:
        await api.delete(f"{set_name}-{ordinal}", namespace=namespace)
    except errors.NotFound:
        return


def _report(servers: int, rounds: list[Round], *, writes_per_s: float) -> dict[str, Any]:
    names = ("sync_s", "rss_mb", "burst_s", "sync_cpu_s", "burst_cpu_s")
    medians = {
        name: round(statistics.median(getattr(one, name) for one in rounds), 3) for name in names
    }
    return {
        **medians,
        "servers": servers,
        "writes_per_s": round(writes_per_s),
        "rounds": [asdict(one) for one in rounds],
    }


def _text(report: dict[str, Any]) -> str:
    lines = []
    for name, promised in report["promise"].items():
        most = "≥" if name in ("claims_per_s", "packing") else "≤"
        lines.append(f"  {name:16} {_figure(report, name):10.2f}   promised {most} {promised:g}")
    return "\n".join(lines)


def _figure(report: dict[str, Any], name: str) -> float:
    """A promised figure: its own key, or a percentile (`claim_p99_ms` ▸ claim_ms, p99)."""
    if name in report:
        return float(report[name])
    what, percent, unit = name.split("_")
    return float(report[f"{what}_{unit}"][percent])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--servers", type=int, default=10_000, help="GameServers (10,000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take the median of")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--scale-up", type=int, default=1000, help="servers to scale to (1,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="per phase of claims")
    parser.add_argument("--context", help="a context of the kubeconfig")
    return parser
