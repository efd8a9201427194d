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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rallypoint.cli import bench_swarm, child, datadir, machine, plan, ports, stack
from rallypoint.games import drift, swarm

NATIVE = "rallypoint.cli._load"
SKIRMISH_S = 900
NICE = -10
"""On a shared machine; it changes who waits, not what a call costs."""
GROW_S = 600.0
"""How long players may take to come: thousands do in a minute; who waits for ever says nothing."""


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
    replay: bool = False
    """Whether rooms are recorded, as they are in the queues of `rallypoint up`."""


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
    favor(os.getpid())


def favor(pid: int) -> None:
    """Let a process go first where that is allowed, and its session, by which Linux may share."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))


def wish_for(setup: Setup, directory: Path) -> plan.Wish:
    """A stack whose one queue makes full rooms, whoever comes."""
    players = 2 if setup.game == swarm.NAME else setup.room_players  # that room has a code
    queue = {
        **plan.DEFAULT_QUEUES["skirmish"],
        "queue": setup.game,
        "game": setup.game,
        "team_count": players,
        "min_players": players,
        "max_players": players,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "options": {"time_limit_s": SKIRMISH_S} if setup.game == "skirmish" else {},
        "replay": setup.replay,
        "spectators": 0,
    }
    return plan.Wish(
        data_dir=directory,
        web_port=ports.free_one(),
        room_nodes=setup.room_nodes,
        gateways=setup.gateways,
        room_capacity=setup.room_capacity,
        queues=(queue,),
        environment={"RALLYPOINT_EXTRA_GAMES": f"{drift.EXTRA},{swarm.EXTRA}", **setup.environment},
    )


class Load:
    """The C load as a process: commands in, events out. End it when done."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, spec: bench_swarm.Spec, *, log: Path, cpus: frozenset[int]) -> Self:
        """Start one that plays `spec`."""
        return cls(await start_load("rallypoint.cli.bench_swarm", spec, log=log, cpus=cpus), log)

    async def told(self, do: str, **what: object) -> AsyncIterator[dict[str, Any]]:
        """Tell it to do something and hear what becomes of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        async for line in self._process.stdout:
            yield json.loads(line)
        raise LoadFailed(f"the load ended early:\n{datadir.log_tail(self._log, lines=20)}")

    async def grow(self, do: str, **what: object) -> None:
        """Tell it about more players and wait until they play; LoadFailed when some never do."""
        try:
            async with asyncio.timeout(GROW_S):
                async for event in self.told(do, **what):
                    if event["event"] == "grown":
                        return
        except TimeoutError:
            tail = datadir.log_tail(self._log, lines=20)
            raise LoadFailed(f"not everybody came within {GROW_S:g} s\n{tail}") from None

    async def end(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


class Bench:
    """A running stack and its load. Use as an async context manager."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._open = contextlib.AsyncExitStack()
        self._running: stack.Stack | None = None
        self._load: Load | None = None

    async def __aenter__(self) -> Self:
        prepare_process()
        setup = self.setup
        try:
            directory = Path(
                self._open.enter_context(tempfile.TemporaryDirectory(prefix="rallypoint-bench-"))
            )
            self._running = await self._open.enter_async_context(
                stack.Stack(wish_for(setup, directory), cpus=setup.server_cores)
            )
            spec = bench_swarm.Spec(self._running.url, setup.game, setup.transport, setup.input_hz)
            log = datadir.logs(directory) / "load.log"
            self._load = await Load.start(spec, log=log, cpus=setup.load_cores)
            self._open.push_async_callback(self._load.end)
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
        assert self._load is not None
        self._pin(self.setup.server_cores | self.setup.load_cores)
        await self._load.grow("grow", players=players)
        self._pin(self.setup.server_cores)
        for pid in self.pids().values():
            favor(pid)

    async def measure(self, seconds: float) -> dict[str, Any]:
        """The figures of the next `seconds`."""
        assert self._load is not None
        events = self._load.told("measure", seconds=seconds)
        return await measured(self.pids, events, cpus=self.setup.server_cores)

    def pids(self) -> dict[str, int]:
        """The server processes."""
        assert self._running is not None
        return pids_of(self._running)

    def _pin(self, cpus: frozenset[int]) -> None:
        for pid in self.pids().values():
            child.pin(pid, cpus)


def pids_of(running: stack.Stack) -> dict[str, int]:
    """The processes of a stack; 0 for one that is down."""
    return {name: running.pid(name) for name in running.names}


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
    pids: Callable[[], Mapping[str, int]],
    events: AsyncIterator[dict[str, Any]],
    *,
    cpus: frozenset[int],
) -> dict[str, Any]:
    """The load's result and what the servers used of `cpus`, theirs, while it measured."""
    idle_s = 0.0
    first: Mapping[str, int] = {}
    before: dict[str, child.Usage] = {}
    after: dict[str, child.Usage] = {}
    async for event in events:
        match event:
            case {"event": "playing"}:
                first = pids()
                before, idle_s = _usages(first), machine.idle_s(cpus)
            case {"event": "measured"}:
                after, idle_s = _usages(pids()), machine.idle_s(cpus) - idle_s
            case {"event": "result", "result": dict(result)}:
                if restarted := [name for name, pid in pids().items() if pid != first[name]]:
                    result["errors"] += len(restarted)
                    result["errors_by_reason"]["RESTARTED"] = len(restarted)
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


def _usages(pids: Mapping[str, int]) -> dict[str, child.Usage]:
    return {name: child.usage(pid) for name, pid in pids.items()}


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
