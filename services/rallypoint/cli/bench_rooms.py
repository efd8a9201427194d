"""`rallypoint bench rooms`: rooms full of players at the gateway's door, figures per player.

Starts its own stack in a fresh directory on free ports, every server process (brokers included) on
one core and the load, a process of its own, on another. R x P clients are matched through the queue
and play over gRPC-Web: frames at the game's rate down, `input_hz` SendInput calls per second up.

    echo_ms     from sending an input to the frame whose `ack` column covers it, at the client
    server_*    all server processes together, from /proc, over the measured seconds
    delivered   frames received / (players x send_hz x seconds): far below 1 the rest means nothing

The gateway's limits are on; the load's addresses are in its trusted ranges, as a proxy's would be.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_load, child, datadir, machine, plan, ports, stack
from rallypoint.cli.service import PROFILE

DELIVERED_AT_LEAST = 0.95
"""Below it a backlog hides what a frame costs."""


class LoadFailed(Exception):
    """The load ended without a result."""


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code: 1 when something went wrong on the way."""
    parsed = _parser().parse_args(arguments)
    spec = bench_load.Spec(
        url="",
        rooms=parsed.rooms,
        players=parsed.players,
        seconds=parsed.seconds,
        input_hz=parsed.input_hz,
        warm_up_s=parsed.warm_up,
    )
    try:
        report = asyncio.run(_measure(spec, environment=_environment(parsed.profile)))
    except (datadir.Refused, LoadFailed) as error:
        print(f"rallypoint bench rooms: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["errors"] or report["delivered"] < DELIVERED_AT_LEAST else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench rooms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rooms", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--players", type=int, default=8, help="per room (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before (%(default)s)")
    parser.add_argument("--input-hz", type=int, default=10, help="per player (%(default)s)")
    parser.add_argument("--profile", type=Path, help="write where each service's CPU went there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def cores() -> tuple[set[int], set[int]]:
    """The servers' core and the load's; the same one where there is no second."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def wish_for(spec: bench_load.Spec, directory: Path) -> plan.Wish:
    """A stack whose one queue makes full rooms, whoever comes."""
    life_s = int(spec.seconds + spec.warm_up_s) + 300
    queue = {
        **plan.DEFAULT_QUEUES["skirmish"],
        "team_count": spec.players,
        "min_players": spec.players,
        "max_players": spec.players,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "options": {"time_limit_s": min(life_s, 900)},
    }
    return plan.Wish(
        data_dir=directory,
        web_port=ports.free_one(),
        room_capacity=max(200, spec.rooms),
        queues=(queue,),
    )


def _environment(profile: Path | None) -> dict[str, str]:
    if profile is None:
        return {}
    profile.mkdir(parents=True, exist_ok=True)
    return {PROFILE: str(profile.absolute())}


async def _measure(spec: bench_load.Spec, *, environment: dict[str, str]) -> dict[str, Any]:
    server_cores, load_cores = cores()
    with tempfile.TemporaryDirectory(prefix="rallypoint-bench-") as directory:
        wish = dataclasses.replace(wish_for(spec, Path(directory)), environment=environment)
        async with stack.Stack(wish, cpus=server_cores) as running:
            spec = dataclasses.replace(spec, url=running.url)
            log = Path(directory) / "logs" / "load.log"
            report = await _play(running, spec, log=log, cpus=load_cores)
    return {
        **report,
        "workload": {**dataclasses.asdict(spec), "game": "skirmish"},
        "trusted_ranges": plan.LOOPBACK,
        "cores": {"servers": sorted(server_cores), "load": sorted(load_cores)},
        "machine": machine.description(),
    }


async def _play(
    running: stack.Stack, spec: bench_load.Spec, *, log: Path, cpus: set[int]
) -> dict[str, Any]:
    """Run the load; read the servers' counters when it starts and when it ends measuring."""
    before: dict[str, child.Usage] = {}
    after: dict[str, child.Usage] = {}
    process = await _start_load(spec, log=log, cpus=cpus)
    result: dict[str, Any] | None = None
    assert process.stdout is not None
    async for line in process.stdout:
        match json.loads(line):
            case {"event": "playing"}:
                before = _usages(running)
            case {"event": "measured"}:
                after = _usages(running)
            case {"event": "result", "result": dict(found)}:
                result = found
    await process.wait()
    if result is None:
        raise LoadFailed(f"the load ended early:\n{datadir.log_tail(log, lines=20)}")
    return {**result, **_server_figures(result, before, after)}


async def _start_load(
    spec: bench_load.Spec, *, log: Path, cpus: set[int]
) -> asyncio.subprocess.Process:
    parent = os.getpid()
    with log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rallypoint.cli.bench_load",
            json.dumps(dataclasses.asdict(spec)),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: child.bind_to_parent(parent, cpus=cpus),
        )


def _usages(running: stack.Stack) -> dict[str, child.Usage]:
    return {name: child.usage(running.pid(name)) for name in running.names}


def _server_figures(
    result: dict[str, Any], before: dict[str, child.Usage], after: dict[str, child.Usage]
) -> dict[str, Any]:
    cpu_s = {name: after[name].cpu_s - before[name].cpu_s for name in after}
    seconds, players = result["seconds"], result["players"]
    share = 1e6 / (players * seconds)
    total_s = sum(cpu_s.values())
    return {
        "server_cpu_us_per_player_s": round(total_s * share, 1),
        "server_cpu_fraction": round(total_s / seconds, 4),
        "server_rss_mb": round(sum(usage.rss_bytes for usage in after.values()) / 1e6, 1),
        "by_process": {
            name: {
                "cpu_us_per_player_s": round(cpu_s[name] * share, 1),
                "of_that_system": round((after[name].system_s - before[name].system_s) * share, 1),
                "rss_mb": round(after[name].rss_bytes / 1e6, 1),
            }
            for name in after
        },
    }


def _text(report: dict[str, Any]) -> str:
    echo = report["echo_ms"]
    processes = ", ".join(
        f"{name} {figures['cpu_us_per_player_s']:.0f}"
        for name, figures in report["by_process"].items()
    )
    return "\n".join(
        [
            f"players          {report['players']}, {report['errors']} errors",
            f"echo             p50 {echo['p50']} ms, p95 {echo['p95']} ms, p99 {echo['p99']} ms",
            f"frames           {report['frames_per_s']} /s (delivered {report['delivered']}), "
            f"{report['bytes_per_frame']} bytes each",
            f"inputs           {report['inputs_per_s']} /s",
            f"server CPU       {report['server_cpu_us_per_player_s']} µs per player-second "
            f"({processes}), {report['server_cpu_fraction']:.0%} of a core",
            f"server memory    {report['server_rss_mb']} MB",
            f"load             {report['load_cpu_fraction']:.0%} of its core",
            f"limits           on; trusted ranges {report['trusted_ranges']}",
        ]
    )
