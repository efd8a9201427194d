"""A stack with players in its rooms, for the benches: started, grown, measured, stopped.

    async with Bench(setup) as bench:
        await bench.grow(2000)
        report = await bench.measure(10.0)

The servers (brokers included) run on `server_cores`, the load, a process of its own, on
`load_cores`. The gateway's limits are on; the load's addresses are in its trusted ranges, as a
proxy's would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rallypoint.cli import bench_swarm, child, datadir, machine, plan, ports, stack
from rallypoint.games import drift

NATIVE = "rallypoint.cli._load"
SKIRMISH_S = 900
NICE = -10
"""On a shared machine; it changes who waits, not what a call costs."""


class LoadFailed(Exception):
    """The load ended without a result."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is started."""

    game: str
    room_players: int = 8
    transport: str = "grpc-web"
    input_hz: int = 10
    room_capacity: int = 2000
    room_nodes: int = 1
    gateways: int = 1
    server_cores: frozenset[int] = field(default_factory=lambda: cores()[0])
    load_cores: frozenset[int] = field(default_factory=lambda: cores()[1])
    environment: Mapping[str, str] = field(default_factory=dict)


def has_native_load() -> bool:
    """Whether the C load was built."""
    return importlib.util.find_spec(NATIVE) is not None


def cores() -> tuple[frozenset[int], frozenset[int]]:
    """The servers' core and the load's; the same one where there is no second."""
    usable = sorted(os.sched_getaffinity(0))
    return frozenset({usable[0]}), frozenset({usable[-1]})


def prepare_process() -> None:
    """Let this process and its children have many sockets, and where allowed go first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def wish_for(setup: Setup, directory: Path) -> plan.Wish:
    """A stack whose one queue makes full rooms, whoever comes."""
    queue = {
        **plan.DEFAULT_QUEUES["skirmish"],
        "queue": setup.game,
        "game": setup.game,
        "team_count": setup.room_players,
        "min_players": setup.room_players,
        "max_players": setup.room_players,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "options": {"time_limit_s": SKIRMISH_S} if setup.game == "skirmish" else {},
    }
    return plan.Wish(
        data_dir=directory,
        web_port=ports.free_one(),
        room_nodes=setup.room_nodes,
        gateways=setup.gateways,
        room_capacity=setup.room_capacity,
        queues=(queue,),
        environment={"RALLYPOINT_EXTRA_GAMES": drift.EXTRA, **setup.environment},
    )


class Bench:
    """A running stack and its load. Use as an async context manager."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._open = contextlib.AsyncExitStack()
        self._running: stack.Stack | None = None
        self._load: asyncio.subprocess.Process | None = None
        self._log = Path()

    async def __aenter__(self) -> Self:
        prepare_process()
        try:
            directory = Path(
                self._open.enter_context(tempfile.TemporaryDirectory(prefix="rallypoint-bench-"))
            )
            self._log = datadir.logs(directory) / "load.log"
            self._running = await self._open.enter_async_context(
                stack.Stack(wish_for(self.setup, directory), cpus=self.setup.server_cores)
            )
            self._load = await self._start_load(self._running.url)
            self._open.push_async_callback(self._end_load)
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def grow(self, players: int) -> None:
        """Have that many players in rooms, playing.

        Meanwhile the servers may use every core, as a join costs far more than a second of play.
        """
        self._pin(self.setup.server_cores | self.setup.load_cores)
        async for event in self._told("grow", players=players):
            if event["event"] == "grown":
                break
        self._pin(self.setup.server_cores)

    async def measure(self, seconds: float) -> dict[str, Any]:
        """The figures of the next `seconds`."""
        assert self._running is not None
        events = self._told("measure", seconds=seconds)
        return await measured(self._running, events, cpus=self.setup.server_cores)

    def _pin(self, cpus: frozenset[int]) -> None:
        assert self._running is not None
        for name in self._running.names:
            child.pin(self._running.pid(name), cpus)

    async def _told(self, do: str, **what: object) -> AsyncIterator[dict[str, Any]]:
        """Tell the load to do something and hear what becomes of it."""
        assert self._load is not None
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        async for line in self._load.stdout:
            yield json.loads(line)
        raise LoadFailed(f"the load ended early:\n{datadir.log_tail(self._log, lines=20)}")

    async def _start_load(self, url: str) -> asyncio.subprocess.Process:
        setup = self.setup
        spec = bench_swarm.Spec(url, setup.game, setup.transport, setup.input_hz)
        module = "rallypoint.cli.bench_swarm"
        return await start_load(module, spec, log=self._log, cpus=setup.load_cores)

    async def _end_load(self) -> None:
        if self._load is not None and self._load.returncode is None:
            self._load.terminate()
            await self._load.wait()


async def start_load(
    module: str, spec: Any, *, log: Path, cpus: frozenset[int]
) -> asyncio.subprocess.Process:
    """A module that plays `spec` and tells events, as a process on `cpus`."""
    parent = os.getpid()
    with log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            json.dumps(dataclasses.asdict(spec)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: child.bind_to_parent(parent, cpus=cpus),
        )


async def measured(
    running: stack.Stack, events: AsyncIterator[dict[str, Any]], *, cpus: frozenset[int]
) -> dict[str, Any]:
    """The load's result and what was used of `cpus`, the servers', while it measured."""
    idle_s = 0.0
    before: dict[str, child.Usage] = {}
    after: dict[str, child.Usage] = {}
    async for event in events:
        match event:
            case {"event": "playing"}:
                before, idle_s = _usages(running), machine.idle_s(cpus)
            case {"event": "measured"}:
                after, idle_s = _usages(running), machine.idle_s(cpus) - idle_s
            case {"event": "result", "result": dict(result)}:
                restarts = sum(running.restarts(name) for name in running.names)
                result["errors"] += restarts
                if restarts:
                    result["errors_by_reason"]["RESTARTS"] = restarts
                figures = _server_figures(result, before, after)
                free = len(cpus) - idle_s / result["seconds"] - figures["server_cpu_fraction"]
                return {**result, **figures, "others_fraction": round(max(0.0, free), 3)}
    raise LoadFailed("the load ended without a result")


def where(setup: Setup) -> dict[str, Any]:
    """What every report says of the circumstances."""
    return {
        "trusted_ranges": plan.LOOPBACK,
        "cores": {"servers": sorted(setup.server_cores), "load": sorted(setup.load_cores)},
        "machine": machine.description(),
    }


def processes_text(report: Mapping[str, Any]) -> str:
    """CPU per process in one line."""
    return ", ".join(
        f"{name} {figures['cpu_us_per_player_s']:.0f}"
        for name, figures in report["by_process"].items()
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Texts in columns, the first one to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _usages(running: stack.Stack) -> dict[str, child.Usage]:
    return {name: child.usage(running.pid(name)) for name in running.names}


def _server_figures(
    result: Mapping[str, Any], before: Mapping[str, child.Usage], after: Mapping[str, child.Usage]
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
