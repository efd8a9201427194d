"""`rallypoint bench rooms`: rooms full of players at the gateway's door, figures per player.

Starts its own stack in a fresh directory on free ports, every server process (brokers included) on
one core and the load, a process of its own, on another. R x P clients are matched through the queue
and play over gRPC-Web: frames at the game's rate down, `input_hz` SendInput calls per second up.

    echo_ms     from sending an input to the frame whose `ack` column covers it, at the client
    server_*    all server processes together, from /proc, over the measured seconds
    delivered   frames received / (players x send_hz x seconds): far below 1 the rest means nothing
    others_fraction  what processes not of this bench took of the servers' core meanwhile: above
                0.05 or so, measure again when the machine is quiet
    floor_us_per_player_s   bare sends and reads of the same bytes at the same rates on as many
                sockets, in C, on the same core: what the kernel alone costs

`--find-max` lets players come until input to echo reaches a p99 of 150 ms, less than 0.95 of the
frames arrive or something fails, and prints the last number that held: players of `drift`, a game
of float positions and velocities and little else, in rooms of `--players`.

`--game swarm --players-total 1000` puts all players into one room, entered by its code: each sees
those around (`rallypoint bench huge` has the same without sockets).

The load is in C where there was a compiler, else in Python, which holds some 600 players per core.
The gateway's limits are on; the load's addresses are in its trusted ranges, as a proxy's would be.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from rallypoint.cli import bench_floor, bench_load, bench_run, bench_search, datadir, stack
from rallypoint.cli.service import PROFILE
from rallypoint.client import channel
from rallypoint.games import swarm

GAMES = ("skirmish", "drift", "swarm")
TRANSPORTS = tuple(channel.SCHEMES)
FIRST = 800
"""Players --find-max starts with."""
SETTLE_S = 3.0


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code: 1 when something went wrong on the way."""
    parsed = _parser().parse_args(arguments)
    setup = _setup(parsed)
    native = parsed.load != "python" and bench_run.has_native_load()
    if parsed.find_max and not native:
        print("rallypoint bench rooms: --find-max needs the C load: no compiler?", file=sys.stderr)
        return 1
    if not native and setup.game != "skirmish":
        print("rallypoint bench rooms: the Python load plays skirmish only", file=sys.stderr)
        return 1
    try:
        if parsed.find_max:
            report = asyncio.run(_find_max(setup, parsed))
        elif native:
            report = asyncio.run(_fixed(setup, parsed))
        else:
            report = asyncio.run(_python(setup, parsed))
    except (datadir.Refused, bench_run.LoadFailed, bench_floor.FloorFailed) as error:
        print(f"rallypoint bench rooms: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["errors"] or report["delivered"] < bench_search.DELIVERED_AT_LEAST else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench rooms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rooms", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--players", type=int, default=8, help="per room (%(default)s)")
    parser.add_argument("--players-total", type=int, help="instead of --rooms: as many as it takes")
    parser.add_argument("--seconds", type=float, help="measured (20; a size of --find-max 8)")
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds before (%(default)s)")
    parser.add_argument("--input-hz", type=int, default=10, help="per player (%(default)s)")
    parser.add_argument("--game", choices=GAMES, help="(skirmish; with --find-max drift)")
    parser.add_argument("--transport", choices=TRANSPORTS, default="grpc-web", help="(%(default)s)")
    parser.add_argument("--find-max", action="store_true", help="search the largest number")
    parser.add_argument("--at-most", type=int, default=8000, help="players searched (%(default)s)")
    parser.add_argument("--load", choices=("c", "python"), default="c", help="(%(default)s)")
    parser.add_argument("--without-floor", action="store_true", help="do not measure the floor")
    parser.add_argument("--replay", action="store_true", help="record the rooms")
    parser.add_argument("--profile", type=Path, help="write where each service's CPU went there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _setup(parsed: argparse.Namespace) -> bench_run.Setup:
    if parsed.game == swarm.NAME:
        parsed.rooms, parsed.players = 1, parsed.players_total or parsed.players
    elif parsed.players_total:
        parsed.rooms = -(-parsed.players_total // parsed.players)
    if parsed.seconds is None:
        parsed.seconds = 8.0 if parsed.find_max else 20.0
    return bench_run.Setup(
        game=parsed.game or ("drift" if parsed.find_max else "skirmish"),
        room_players=parsed.players,
        transport=parsed.transport,
        input_hz=parsed.input_hz,
        environment=_environment(parsed.profile),
        replay=parsed.replay,
    )


def _environment(profile: Path | None) -> dict[str, str]:
    if profile is None:
        return {}
    profile.mkdir(parents=True, exist_ok=True)
    return {PROFILE: str(profile.absolute())}


async def _fixed(setup: bench_run.Setup, parsed: argparse.Namespace) -> dict[str, Any]:
    """One size, played by the C load."""
    async with bench_run.Bench(setup) as bench:
        await bench.grow(parsed.rooms * parsed.players)
        await asyncio.sleep(parsed.warm_up)
        report = await bench.measure(parsed.seconds)
    floor = {} if parsed.without_floor else await with_floor(setup, report)
    workload = {"rooms": parsed.rooms, "players": parsed.players, "seconds": parsed.seconds}
    return {**report, **floor, "workload": _workload(setup, workload), **bench_run.where(setup)}


async def _find_max(setup: bench_run.Setup, parsed: argparse.Namespace) -> dict[str, Any]:
    """The report of the largest size that holds."""
    async with bench_run.Bench(setup) as bench:
        held = await find_max(
            bench, room=setup.room_players, seconds=parsed.seconds, most=parsed.at_most
        )
    floor = {} if parsed.without_floor else await with_floor(setup, held)
    workload = {"players": setup.room_players, "seconds": parsed.seconds}
    return {**held, **floor, "workload": _workload(setup, workload), **bench_run.where(setup)}


class Grown(Protocol):
    """Servers with players, more and more of them."""

    async def grow(self, players: int) -> None:
        """Have that many players in rooms, playing."""

    async def measure(self, seconds: float) -> dict[str, Any]:
        """The figures of the next `seconds`."""


async def find_max(
    bench: Grown, *, room: int, seconds: float, most: int, first: int = FIRST
) -> dict[str, Any]:
    """Grow until it does not hold any more; the report of the last size that held."""
    samples: list[bench_search.Sample] = []
    held: dict[str, Any] | None = None
    step = bench_search.Step(players=min(first, most))
    while not step.done:
        await bench.grow(step.players)
        await asyncio.sleep(SETTLE_S)
        report = await bench.measure(seconds)
        failure = bench_search.judge(report)
        held = held if failure else report
        sample = bench_search.Sample(
            step.players, report["server_cpu_fraction"], report["others_fraction"], failure
        )
        samples.append(sample)
        _say(sample, report)
        step = bench_search.following(samples, room=room, most=most)
    if held is None:
        raise bench_run.LoadFailed(f"{samples[0].players} players failed: {samples[0].failure}")
    searched = [dataclasses.asdict(sample) for sample in samples]
    return {**held, "max_players": step.found, "searched": searched}


async def with_floor(setup: bench_run.Setup, report: dict[str, Any]) -> dict[str, Any]:
    """The floor of a measured size and the ratio to it."""
    wire = report["wire_bytes"]
    floor_us = await bench_floor.measure(
        bench_floor.Floor(
            players=report["players"],
            frame_bytes=round(wire["frame"]),
            input_bytes=round(wire["input"]),
            answer_bytes=round(wire["answer"]),
            input_hz=setup.input_hz,
        ),
        servers=setup.server_cores,
        load=setup.load_cores,
    )
    ratio = report["server_cpu_us_per_player_s"] / floor_us
    return {"floor_us_per_player_s": floor_us, "times_floor": round(ratio, 2)}


def _workload(setup: bench_run.Setup, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "game": setup.game,
        "transport": setup.transport,
        "input_hz": setup.input_hz,
        "replay": setup.replay,
        **more,
    }


async def _python(setup: bench_run.Setup, parsed: argparse.Namespace) -> dict[str, Any]:
    """One size, played by the Python client."""
    spec = bench_load.Spec(
        url="",
        rooms=parsed.rooms,
        players=parsed.players,
        seconds=parsed.seconds,
        input_hz=parsed.input_hz,
        warm_up_s=parsed.warm_up,
        transport=parsed.transport,
    )
    with tempfile.TemporaryDirectory(prefix="rallypoint-bench-") as directory:
        wish = bench_run.wish_for(setup, Path(directory))
        async with stack.Stack(wish, cpus=setup.server_cores) as running:
            spec = dataclasses.replace(spec, url=running.url)
            log = datadir.logs(Path(directory)) / "load.log"
            events = _played(spec, setup, log)
            report = await bench_run.measured(
                lambda: bench_run.pids_of(running), events, cpus=setup.server_cores
            )
    return {
        **report,
        "load": "python",
        "workload": {**dataclasses.asdict(spec), "game": setup.game},
        **bench_run.where(setup),
    }


async def _played(
    spec: bench_load.Spec, setup: bench_run.Setup, log: Path
) -> AsyncIterator[dict[str, Any]]:
    """The events of the Python load."""
    module = "rallypoint.cli.bench_load"
    process = await bench_run.start_load(module, spec, log=log, cpus=setup.load_cores)
    assert process.stdout is not None
    async for line in process.stdout:
        yield json.loads(line)
    await process.wait()
    raise bench_run.LoadFailed(f"the load ended early:\n{datadir.log_tail(log, lines=20)}")


def _say(sample: bench_search.Sample, report: dict[str, Any]) -> None:
    verdict = sample.failure or "holds"
    text = f"{sample.players} players: {verdict}; {report['server_cpu_us_per_player_s']} µs each"
    print(text, file=sys.stderr, flush=True)


def _text(report: dict[str, Any]) -> str:
    echo = report["echo_ms"]
    lines = [
        f"players          {report['players']} of {report['workload']['game']}, "
        f"{report['errors']} errors {report['errors_by_reason'] or ''}",
        f"echo             p50 {echo['p50']} ms, p95 {echo['p95']} ms, p99 {echo['p99']} ms",
        f"frames           {report['frames_per_s']} /s (delivered {report['delivered']}), "
        f"{report['bytes_per_frame']} bytes each",
        f"inputs           {report['inputs_per_s']} /s",
        f"server CPU       {report['server_cpu_us_per_player_s']} µs per player-second "
        f"({bench_run.processes_text(report)}), {report['server_cpu_fraction']:.0%} of a core",
    ]
    if "floor_us_per_player_s" in report:
        lines.append(
            f"floor            {report['floor_us_per_player_s']} µs per player-second: "
            f"the servers need {report['times_floor']} times as much"
        )
    if "max_players" in report:
        lines.insert(0, f"most players     {report['max_players']}")
    return "\n".join(
        [
            *lines,
            f"others           {report['others_fraction']:.0%} of the servers' core, meanwhile",
            f"server memory    {report['server_rss_mb']} MB",
            f"load             {report['load_cpu_fraction']:.0%} of its core, in {report['load']}",
            f"limits           on; trusted ranges {report['trusted_ranges']}",
        ]
    )
