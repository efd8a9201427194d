"""`rallypoint bench soak`: rooms full of players for minutes; memory and delays must stay flat.

Brings as many players of `drift` as take the servers to `--load` of their core (or as many as
`--players-total` says), then measures interval after interval: memory of the server processes, p99
of input to echo, frames delivered. The verdict at the end goes by the slope over all intervals but
the first: memory is flat when it grows by less than 3 % (or 4 MB) over the whole run, p99 by less
than 25 % (or 10 ms).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from typing import Any

from rallypoint.cli import bench_rooms, bench_run, bench_trend, datadir

FIRST = 400
LONGEST_MIN = 12.0
"""An access token lives 15 minutes, and the load does not renew it."""
MEMORY = {"share": 0.03, "least": 4.0}
P99 = {"share": 0.25, "least": 10.0}
ROOM = 8
PROBE_S = 4.0


def run(arguments: list[str]) -> int:
    """Measure and print; 0 when everything stayed flat and nothing failed."""
    parsed = _parser().parse_args(arguments)
    if not bench_run.has_native_load():
        print("rallypoint bench soak needs the C load: no compiler?", file=sys.stderr)
        return 1
    if not 0 < parsed.minutes <= LONGEST_MIN:
        print(f"rallypoint bench soak: --minutes is at most {LONGEST_MIN:g}", file=sys.stderr)
        return 1
    try:
        report = asyncio.run(_measure(parsed))
    except (datadir.Refused, bench_run.LoadFailed) as error:
        print(f"rallypoint bench soak: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 0 if report["flat"] and not report["errors"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--interval", type=float, default=20.0, help="seconds (%(default)s)")
    parser.add_argument("--load", type=float, default=0.7, help="of a core (%(default)s)")
    parser.add_argument("--players-total", type=int, help="instead of --load")
    parser.add_argument("--transport", choices=bench_rooms.TRANSPORTS, default="grpc-web")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _measure(parsed: argparse.Namespace) -> dict[str, Any]:
    setup = bench_run.Setup(game="drift", transport=parsed.transport)
    intervals: list[dict[str, Any]] = []
    async with bench_run.Bench(setup) as bench:
        players = await _filled(bench, parsed)
        await asyncio.sleep(bench_rooms.SETTLE_S)
        for _ in range(max(3, round(parsed.minutes * 60 / parsed.interval))):
            row = _row(await bench.measure(parsed.interval))
            intervals.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    found = verdict(intervals)
    return {
        **found,
        "players": players,
        "errors": intervals[-1]["errors"],
        "intervals": intervals,
        "workload": {"game": setup.game, "transport": setup.transport, **_asked(parsed)},
        **bench_run.where(setup),
    }


def _asked(parsed: argparse.Namespace) -> dict[str, Any]:
    return {"minutes": parsed.minutes, "interval_s": parsed.interval, "load": parsed.load}


async def _filled(bench: bench_rooms.Grown, parsed: argparse.Namespace) -> int:
    """Bring the players, in steps towards the wished share of the core; how many there are."""
    if parsed.players_total:
        await bench.grow(parsed.players_total)
        return int(parsed.players_total)
    players = FIRST
    for share in (0.7, 0.95, 1.0):  # a player costs less the more there are
        await bench.grow(players)
        await asyncio.sleep(PROBE_S / 2)
        fraction = (await bench.measure(PROBE_S))["server_cpu_fraction"]
        wanted = players * parsed.load / max(fraction, 0.01) * share
        players = max(players, round(wanted / ROOM) * ROOM)
    await bench.grow(players)
    return players


def _row(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "rss_mb": report["server_rss_mb"],
        "rss_mb_by_process": {name: row["rss_mb"] for name, row in report["by_process"].items()},
        "p50_ms": report["echo_ms"]["p50"],
        "p99_ms": report["echo_ms"]["p99"],
        "delivered": report["delivered"],
        "cpu_fraction": report["server_cpu_fraction"],
        "others_fraction": report["others_fraction"],
        "errors": report["errors"],
        "errors_by_reason": report["errors_by_reason"],
    }


def verdict(intervals: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether memory and p99 stayed flat; the first interval is still warming up."""
    steady = intervals[1:]
    memory = bench_trend.trend([row["rss_mb"] for row in steady], **MEMORY)
    p99 = bench_trend.trend([row["p99_ms"] or float("inf") for row in steady], **P99)
    return {
        "flat": memory.flat and p99.flat,
        "memory_mb": {**dataclasses.asdict(memory), "flat": memory.flat},
        "p99_ms": {**dataclasses.asdict(p99), "flat": p99.flat},
    }


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['rss_mb']} MB, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms, delivered"
        f" {row['delivered']}, {row['cpu_fraction']:.0%} of the core, {row['errors']} errors"
    )


def _text(report: dict[str, Any]) -> str:
    memory, p99 = report["memory_mb"], report["p99_ms"]
    return "\n".join(
        [
            f"players    {report['players']}, {report['errors']} errors",
            f"memory     {memory['typical']} MB, grew by {memory['growth']} MB over the run"
            f" (flat up to {memory['allowed']})",
            f"echo p99   {p99['typical']} ms, grew by {p99['growth']} ms"
            f" (flat up to {p99['allowed']})",
            f"verdict    {'flat' if report['flat'] else 'NOT flat'}",
        ]
    )
