"""`rallypoint bench peers`: the light work of `bench rooms` on us and on Colyseus, in turns.

The same game (`games/drift.py`, `loadtest/peers/colyseus/server.mjs`), the same number of players
in rooms of eight, the same load in C, all server processes on one core and the load on another:

    grpc-web, websocket     Rallypoint, its clients' two transports
    colyseus-default        Colyseus with its own timers: the patch beside the step
    colyseus-tuned          the patch at the end of the step

Figures are medians over `--rounds`; `times_cheaper` compares the server CPU per player and second
with that of the tuned Colyseus. `--find-max` searches each one's largest number of players instead.

Colyseus comes from npm, pinned in loadtest/peers/colyseus, and is kept in the cache directory; Node
is the one on the path, or that of requirements/node.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_rooms, bench_run, bench_search, bench_swarm, child, datadir

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "loadtest" / "peers" / "colyseus"
BUILD = ROOT / "clients" / "web" / "build.py"
FILES = ("package.json", "package-lock.json", ".npmrc", "server.mjs")
PEERS = {"colyseus-default": "default", "colyseus-tuned": "tuned"}
DESIGNS = ("grpc-web", "websocket", *PEERS)
REFERENCE = "colyseus-tuned"
ROOM = 8
SEATS_AT_ONCE = 64
"""Colyseus keeps a reserved seat for 15 s."""
LINE_BYTES = 1 << 20


class PeerFailed(Exception):
    """A peer cannot be measured; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer ready to start."""

    node: str
    version: str
    home: Path


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    if not bench_run.has_native_load():
        print("rallypoint bench peers needs the C load: no compiler?", file=sys.stderr)
        return 1
    try:
        report = asyncio.run(_measure(parsed))
    except (PeerFailed, datadir.Refused, bench_run.LoadFailed) as error:
        print(f"rallypoint bench peers: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--players-total", type=int, default=800, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before (%(default)s)")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=DESIGNS, metavar="NAME")
    parser.add_argument("--find-max", action="store_true", help="search each one's largest number")
    parser.add_argument("--at-most", type=int, default=8000, help="players searched (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _measure(parsed: argparse.Namespace) -> dict[str, Any]:
    peer = installed() if set(parsed.designs) & set(PEERS) else None
    setup = bench_run.Setup(game="drift")
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in parsed.designs}
    for number in range(1 if parsed.find_max else parsed.rounds):
        for name in parsed.designs:
            print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
            async with _opened(name, setup, peer) as bench:
                samples[name].append(await _sample(bench, parsed))
    results = {name: summary(rows) for name, rows in samples.items()}
    return {
        "workload": {
            "players": parsed.players_total,
            "room_players": ROOM,
            "seconds": parsed.seconds,
            "rounds": parsed.rounds,
            "find_max": parsed.find_max,
        },
        "results": results,
        "times_cheaper": against(results, "server_cpu_us_per_player_s", smaller=True),
        "times_players": against(results, "max_players", smaller=False),
        "node": peer.version if peer else None,
        **bench_run.where(setup),
    }


async def _sample(bench: bench_rooms.Grown, parsed: argparse.Namespace) -> dict[str, Any]:
    if parsed.find_max:
        return await bench_rooms.find_max(
            bench, room=ROOM, seconds=parsed.seconds, most=parsed.at_most
        )
    await bench.grow(parsed.players_total)
    await asyncio.sleep(parsed.warm_up)
    return await bench.measure(parsed.seconds)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds of one design."""

    def middle(values: list[float]) -> float:
        return round(statistics.median(values), 4)

    plain = ("server_cpu_us_per_player_s", "server_cpu_fraction", "delivered", "server_rss_mb")
    found: dict[str, Any] = {name: middle([row[name] for row in rows]) for name in plain}
    found["echo_ms"] = {
        name: middle([row["echo_ms"][name] or float("inf") for row in rows])
        for name in rows[0]["echo_ms"]
    }
    found["bytes_per_frame"] = rows[-1]["bytes_per_frame"]
    found["cpu_us_all"] = [row["server_cpu_us_per_player_s"] for row in rows]
    found["others_fraction"] = [row["others_fraction"] for row in rows]
    found["errors"] = sum(row["errors"] for row in rows)
    found["fails"] = [why for row in rows if (why := bench_search.judge(row))]
    if "max_players" in rows[0]:
        found["max_players"] = rows[0]["max_players"]
    return found


def against(results: dict[str, Any], figure: str, *, smaller: bool) -> dict[str, float]:
    """How many times better than the reference each of our own is."""
    theirs = results.get(REFERENCE, {}).get(figure)
    if not theirs:
        return {}
    ours = {name: row[figure] for name, row in results.items() if name not in PEERS}
    return {
        name: round(theirs / value if smaller else value / theirs, 2)
        for name, value in ours.items()
    }


def _text(report: dict[str, Any]) -> str:
    rows = [("design", "players", "µs CPU", "p50 ms", "p99 ms", "delivered", "errors")]
    for name, row in report["results"].items():
        players = row.get("max_players", report["workload"]["players"])
        echo = row["echo_ms"]
        figures = (row["server_cpu_us_per_player_s"], echo["p50"], echo["p99"], row["delivered"])
        rows.append((name, *(str(value) for value in (players, *figures, row["errors"]))))
    ratios = [
        *(f"{name}: {r} times cheaper" for name, r in report["times_cheaper"].items()),
        *(f"{name}: {r} times as many players" for name, r in report["times_players"].items()),
    ]
    return "\n".join([bench_run.table(rows), *ratios, json.dumps(report["machine"])])


# --- the designs ---


def _opened(
    name: str, setup: bench_run.Setup, peer: Installed | None
) -> contextlib.AbstractAsyncContextManager[bench_rooms.Grown]:
    if name not in PEERS:
        return bench_run.Bench(bench_run.Setup(game=setup.game, transport=name))
    if peer is None:
        raise PeerFailed(f"{name} is not installed")
    return _colyseus(PEERS[name], setup, peer)


class Peer:
    """A running Colyseus server and its load."""

    def __init__(
        self, server: asyncio.subprocess.Process, load: bench_run.Load, setup: bench_run.Setup
    ) -> None:
        self._server = server
        self._load = load
        self._setup = setup
        self._players = 0

    async def grow(self, players: int) -> None:
        """Have that many players in rooms, playing."""
        while self._players < players:
            count = min(SEATS_AT_ONCE, players - self._players)
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps({"seats": count}).encode() + b"\n")
            seats = (await said(self._server))["seats"]
            await self._load.grow("sit", seats=seats)
            self._players += count

    async def measure(self, seconds: float) -> dict[str, Any]:
        """The figures of the next `seconds`."""
        events = self._load.told("measure", seconds=seconds)
        return await bench_run.measured(
            lambda: {"node": self._server.pid}, events, cpus=self._setup.server_cores
        )


@contextlib.asynccontextmanager
async def _colyseus(
    kind: str, setup: bench_run.Setup, peer: Installed
) -> AsyncIterator[bench_rooms.Grown]:
    bench_run.prepare_process()
    parent = os.getpid()
    server = await asyncio.create_subprocess_exec(
        peer.node,
        "server.mjs",
        kind,
        cwd=peer.home,
        env={**os.environ, "NODE_ENV": "production"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        preexec_fn=lambda: child.bind_to_parent(parent, cpus=setup.server_cores),
    )
    load: bench_run.Load | None = None
    try:
        port = (await said(server))["port"]
        spec = bench_swarm.Spec(f"http://127.0.0.1:{port}", setup.game, "colyseus", setup.input_hz)
        log = peer.home / "load.log"
        load = await bench_run.Load.start(spec, log=log, cpus=setup.load_cores)
        yield Peer(server, load, setup)
    finally:
        if load is not None:
            await load.end()
        if server.returncode is None:
            server.kill()
        await server.wait()


async def said(server: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next line of JSON that a peer prints; what else it prints is left out."""
    assert server.stdout is not None
    async for line in server.stdout:
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                return answer
    raise PeerFailed("the peer's server ended early")


# --- installing ---


def installed() -> Installed:
    """Colyseus in the cache directory, from the lock file of the checkout."""
    if not SOURCE.exists() or not BUILD.exists():
        raise PeerFailed("Colyseus is installed from a checkout: run this in one")
    home = Path(os.environ.get("RALLYPOINT_CACHE") or Path.home() / ".cache" / "rallypoint")
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()
    target = home / "peers" / f"colyseus-{digest[:12]}"
    node, npm, environment = _node()
    if not target.exists():
        print("installing Colyseus from npm (30 MB, once)", file=sys.stderr, flush=True)
        half = target.with_name(f"{target.name}.{os.getpid()}")
        half.mkdir(parents=True)
        for name in FILES:
            shutil.copy(SOURCE / name, half / name)
        command = [*npm, "ci", "--ignore-scripts", "--no-progress", "--loglevel=error"]
        done = subprocess.run(command, check=False, cwd=half, env=environment, stdout=sys.stderr)
        if done.returncode:
            shutil.rmtree(half, ignore_errors=True)
            raise PeerFailed("npm cannot install Colyseus: see above")
        half.rename(target)
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True)
    return Installed(node, version.stdout.strip(), target)


def _node() -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Node, npm and their environment, found or installed as the web client's build does."""
    spec = importlib.util.spec_from_file_location("web_build", BUILD)
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = build
    spec.loader.exec_module(build)
    found = build.find_node()
    return found.node[0], found.npm, found.environment()
