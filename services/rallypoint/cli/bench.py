"""`rallypoint bench <what>`: figures that are promised, measured; `--json` for machines."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping

BENCHES: Mapping[str, tuple[str, str]] = {
    "rooms": ("rallypoint.cli.bench_rooms", "rooms full of players: echo time, CPU per player"),
    "step": ("rallypoint.cli.bench_step", "one tick of all rooms, without sockets"),
    "peers": ("rallypoint.cli.bench_peers", "the same rooms on us and on Colyseus, in turns"),
    "soak": ("rallypoint.cli.bench_soak", "rooms for minutes: memory and delays stay flat"),
    "scale": ("rallypoint.cli.bench_scale", "several room nodes and gateways against one of each"),
    "huge": ("rallypoint.cli.bench_huge", "one room of a thousand players, without sockets"),
    "edge": ("rallypoint.cli.bench_edge", "one call and one frame at the gateway"),
    "matchmaking": ("rallypoint.cli.bench_matchmaking", "one cycle of the matcher"),
    "fleet": ("rallypoint.cli.bench_fleet", "ten thousand GameServers on a real API server"),
    "chaos": ("rallypoint.cli.bench_chaos", "processes killed and frozen while matches go on"),
    "moves": ("rallypoint.cli.bench_moves", "a played room of 64 KB moved to and fro"),
    "probe": ("rallypoint.cli.bench_probe", "what the probe costs sockets and itself"),
    "image": ("rallypoint.cli.bench_image", "what the images weigh, and from exec to ready"),
    "start": ("rallypoint.cli.bench_start", "from exec to ready, each service and the stack"),
}


def run(arguments: list[str]) -> int:
    """Run one bench; the result is its exit code."""
    lines = "\n".join(f"  {name:12}{line}" for name, (_, line) in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="rallypoint bench",
        description=__doc__,
        epilog=f"benches:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bench", choices=BENCHES, metavar="bench", help="what to measure")
    parsed = parser.parse_args(arguments[:1])
    module, _ = BENCHES[parsed.bench]
    return int(importlib.import_module(module).run(arguments[1:]))
