"""`rallypoint bench scale`: several room nodes and gateways on one machine, against one of each.

    1 pair     a room node and a gateway, on one core, with P players
    n pairs    n of each behind one port, on n cores, with n x P players

`efficiency` of n pairs is what a player costs with one pair, divided by what one costs with n:
CPU of all server processes per player and second. Servers here are limited by CPU alone, so 0.9
means that n cores hold 0.9 n times as many players, as long as everybody gets the frames in time,
which is judged too. The load runs on the last core, also when a server does: its time is not
counted, and there must be enough left for it (`load_cpu_fraction`). Runs alternate; figures are
medians over `--rounds`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from typing import Any

from rallypoint.cli import bench_rooms, bench_run, bench_search, datadir

PROMISE = 0.9
ROOM = 8


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    if not bench_run.has_native_load():
        print("rallypoint bench scale needs the C load: no compiler?", file=sys.stderr)
        return 1
    try:
        report = asyncio.run(_measure(parsed))
    except (datadir.Refused, bench_run.LoadFailed) as error:
        print(f"rallypoint bench scale: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["fails"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--pairs", type=int, default=cores, help="of n pairs (%(default)s)")
    parser.add_argument("--players-each", type=int, default=400, help="a pair (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before (%(default)s)")
    parser.add_argument("--transport", choices=bench_rooms.TRANSPORTS, default="grpc-web")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _measure(parsed: argparse.Namespace) -> dict[str, Any]:
    samples: dict[int, list[dict[str, Any]]] = {1: [], parsed.pairs: []}
    for number in range(parsed.rounds):
        for pairs, rows in samples.items():
            print(f"round {number + 1}: {pairs} of each", file=sys.stderr, flush=True)
            rows.append(await _sample(pairs, parsed))
    results = {pairs: _median(rows) for pairs, rows in samples.items()}
    single, many = results[1], results[parsed.pairs]
    return {
        "efficiency": efficiency(single, many),
        "promise": PROMISE,
        "results": results,
        "fails": [why for row in results.values() for why in row["fails"]],
        "workload": {
            "game": "drift",
            "transport": parsed.transport,
            "pairs": parsed.pairs,
            "players_each": parsed.players_each,
            "rounds": parsed.rounds,
            "seconds": parsed.seconds,
        },
        **bench_run.where(_setup(parsed.pairs, parsed)),
    }


def efficiency(single: dict[str, Any], many: dict[str, Any]) -> float:
    """How much of each added pair one gets."""
    cost = "server_cpu_us_per_player_s"
    return round(float(single[cost]) / float(many[cost]), 3)


async def _sample(pairs: int, parsed: argparse.Namespace) -> dict[str, Any]:
    async with bench_run.Bench(_setup(pairs, parsed)) as bench:
        await bench.grow(pairs * parsed.players_each)
        await asyncio.sleep(parsed.warm_up)
        return await bench.measure(parsed.seconds)


def _setup(pairs: int, parsed: argparse.Namespace) -> bench_run.Setup:
    usable = sorted(os.sched_getaffinity(0))
    return bench_run.Setup(
        game="drift",
        transport=parsed.transport,
        room_nodes=pairs,
        gateways=pairs,
        # Fleet fills one node before the next: each has room for its share and one room more.
        room_capacity=-(-parsed.players_each // ROOM) + 1,
        server_cores=frozenset(usable[:pairs]),
        load_cores=frozenset(usable[-1:]),
    )


def _median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(name: str) -> float:
        return round(statistics.median(float(row[name]) for row in rows), 3)

    return {
        **{name: middle(name) for name in ("server_cpu_us_per_player_s", "server_cpu_fraction")},
        **{name: middle(name) for name in ("delivered", "load_cpu_fraction")},
        "players": rows[0]["players"],
        "echo_ms": rows[-1]["echo_ms"],
        "by_process": {
            name: row["cpu_us_per_player_s"] for name, row in rows[-1]["by_process"].items()
        },
        "cpu_us_all": [row["server_cpu_us_per_player_s"] for row in rows],
        "others_fraction": [row["others_fraction"] for row in rows],
        "fails": [why for row in rows if (why := bench_search.judge(row))],
    }


def _text(report: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        ("pairs", "players", "µs CPU", "cores", "p50 ms", "p99 ms", "delivered")
    ]
    for pairs, row in report["results"].items():
        echo = row["echo_ms"]
        figures = (row["server_cpu_us_per_player_s"], row["server_cpu_fraction"])
        cells = (pairs, row["players"], *figures, echo["p50"], echo["p99"], row["delivered"])
        rows.append(tuple(str(cell) for cell in cells))
    found = f"efficiency {report['efficiency']} (promised {report['promise']})"
    return "\n".join([bench_run.table(rows), found, *report["fails"]])
