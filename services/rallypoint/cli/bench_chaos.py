"""`rallypoint bench chaos`: real processes are killed and frozen while matches go on.

Starts its own stack (two room nodes, two gateways, both brokers), fills rooms of the game `ledger`
with players, and breaks one thing per round, in an order that follows from `--seed`. A round is
over when everybody plays again and every process is ready. Each room node has a network namespace
of its own, so that it can be cut off from all others or from the brokers alone while it runs on;
without the right to make one those faults are left out, and the report says so.

    violations  what must never happen: two owners whose writes count, an epoch that goes back, an
                input applied twice, a match that ends, a match not rated exactly once
    broken      promises of time that a round did not keep; a violation only beyond ten times that
    resume_s    per round, the longest any player was without a frame, by kind of fault
    gap_ms      the same for planned drains
    lost_ms     by how much a room's own clock went back
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rallypoint.cli import (
    chaos_audit,
    chaos_plan,
    chaos_players,
    datadir,
    machine,
    netns,
    plan,
    ports,
    stack,
)
from rallypoint.games import ledger
from rallypoint.kit.bus import Bus

PER_ROOM = 4
ROOM_NODES = ("room-state-1", "room-state-2")
TICK_MS = 50
HEALTHY_WITHIN_S = 60.0
ENDED_WITHIN_S = 60.0
TOLERATED = 10
"""A promise missed by more than this factor is a violation."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What was asked for."""

    rounds: int
    rooms: int
    seed: int
    kinds: tuple[chaos_plan.Kind, ...]
    settle_s: float = 1.5
    """Undisturbed play between two rounds: at least one snapshot."""


@dataclass(slots=True)
class Findings:
    """What came of it."""

    violations: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    resume_s: dict[str, list[float]] = field(default_factory=dict)
    lost_ms: dict[str, list[float]] = field(default_factory=dict)
    rounds: int = 0


def run(arguments: list[str]) -> int:
    """Break things and print what came of it; 1 when something happened that must not."""
    parsed = _parser().parse_args(arguments)
    kinds, left_out = _possible(parsed.faults)
    spec = Spec(rounds=parsed.rounds, rooms=parsed.rooms, seed=parsed.seed, kinds=kinds)
    report = {**asyncio.run(measure(spec, told=not parsed.json)), "left_out": left_out}
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["violations"] else 0


def _possible(asked: Sequence[str] | None) -> tuple[tuple[chaos_plan.Kind, ...], dict[str, str]]:
    """The kinds of fault that this machine allows, and why others are left out.

    Moves this process into a network of its own when a kind needs one. Refused when that cannot
    be had and was asked for by name.
    """
    kinds = [chaos_plan.BY_NAME[name] for name in asked or chaos_plan.BY_NAME]
    cuts = [kind.name for kind in kinds if kind.action == "cut"]
    try:
        if cuts:
            netns.enter()
    except netns.Unavailable as error:
        if asked:
            raise datadir.Refused(f"{', '.join(cuts)}: {error}") from error
        return tuple(k for k in kinds if k.name not in cuts), dict.fromkeys(cuts, str(error))
    return tuple(kinds), {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=22, help="(%(default)s)")
    parser.add_argument("--rooms", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument(
        "--faults", action="append", choices=chaos_plan.BY_NAME, help="only these (all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def measure(spec: Spec, *, told: bool = False) -> dict[str, Any]:
    """Run all rounds on a stack of their own and return the report."""
    findings = Findings()
    auditor = chaos_audit.Auditor(findings.violations)
    async with contextlib.AsyncExitStack() as opened:
        rack = None
        if any(kind.action == "cut" for kind in spec.kinds):
            rack = opened.enter_context(netns.Rack(ROOM_NODES))
        directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="rallypoint-chaos-"))
        running = await opened.enter_async_context(stack.Stack(_wish(Path(directory), rack)))
        bus = await Bus.connect(running.nats_url, name="chaos")
        opened.push_async_callback(bus.close)
        await _Siege(spec, running, findings, auditor, rack=rack, told=told).play(bus)
    return _report(spec, findings, auditor)


def queue_of(game: str) -> dict[str, Any]:
    """A queue that makes full rooms of whoever comes."""
    return {
        **plan.DEFAULT_QUEUES["skirmish"],
        "queue": game,
        "game": game,
        "team_count": PER_ROOM,
        "min_players": PER_ROOM,
        "max_players": PER_ROOM,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "options": {},
    }


def _wish(directory: Path, rack: netns.Rack | None) -> plan.Wish:
    wish = plan.Wish(
        data_dir=directory,
        web_port=ports.free_one(),
        room_nodes=len(ROOM_NODES),
        gateways=2,
        queues=(queue_of(chaos_players.GAME),),
        environment={"RALLYPOINT_EXTRA_GAMES": ledger.EXTRA},
    )
    if rack is None:
        return wish
    places = {name: rack.place(name) for name in ROOM_NODES}
    return dataclasses.replace(wish, broker_host=netns.BROKERS, places=places)


class _Siege:
    """All rounds against one running stack."""

    def __init__(
        self,
        spec: Spec,
        running: stack.Stack,
        findings: Findings,
        auditor: chaos_audit.Auditor,
        *,
        rack: netns.Rack | None,
        told: bool,
    ) -> None:
        self._spec = spec
        self._stack = running
        self._findings = findings
        self._auditor = auditor
        self._rack = rack
        self._told = told
        self._players = [
            chaos_players.Player(running.url, f"player-{number}", findings.violations)
            for number in range(spec.rooms * PER_ROOM)
        ]

    async def play(self, bus: Bus) -> None:
        """Bring everybody in, break things, end all matches."""
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._auditor.follow(bus), name="auditor")
            playing = [
                tasks.create_task(player.run(ending), name=player.witness.name)
                for player in self._players
            ]
            await self._wait_healthy("the start")
            await self._rounds()
            ending.set()
            _, late = await asyncio.wait(playing, timeout=ENDED_WITHIN_S)
            for match in late:
                self._findings.violations.append(f"{match.get_name()}: the match did not end")
                match.cancel()
            watching.cancel()

    async def _rounds(self) -> None:
        faults = chaos_plan.faults(
            self._spec.seed,
            self._spec.rounds,
            kinds=self._spec.kinds,
            processes=self._stack.names,
        )
        for planned in faults:
            await asyncio.sleep(self._spec.settle_s)
            fault = dataclasses.replace(planned, target=self._target(planned))
            for player in self._players:
                player.witness.begin()
            await self._inflict(fault)
            healthy = await self._wait_healthy(f"{fault.kind.name} ({fault.target})")
            self._note(fault)
            if not healthy:
                return

    def _target(self, fault: chaos_plan.Fault) -> str:
        """The process to hit: of the room nodes the one that has most rooms."""
        if fault.kind.process != "room-state":
            return fault.target
        node_id, _ = Counter(self._auditor.nodes.values()).most_common(1)[0]
        return f"room-state-{node_id.rpartition('-')[2]}"

    async def _inflict(self, fault: chaos_plan.Fault) -> None:
        """Do what the fault says; returns when its own part is over."""
        match fault.kind.action:
            case "kill":
                self._stack.kill(fault.target)
            case "freeze":
                self._stack.kill(fault.target, number=signal.SIGSTOP)
                await asyncio.sleep(fault.hold_s)
                self._stack.kill(fault.target, number=signal.SIGCONT)
            case "drain":
                await self._stack.restart(fault.target)
            case "cut":
                await self._cut(fault)

    async def _cut(self, fault: chaos_plan.Fault) -> None:
        """Take the host off the network, or the brokers out of its reach, for a while."""
        assert self._rack is not None, "a plan has cuts only with a rack"
        brokers_only = fault.kind.from_brokers_only
        self._rack.cut(fault.target, from_brokers_only=brokers_only)
        await asyncio.sleep(fault.hold_s)
        self._rack.heal(fault.target, from_brokers_only=brokers_only)

    async def _wait_healthy(self, after: str) -> bool:
        """Wait until everybody plays and everything is ready; else that is a violation."""
        deadline_s = time.monotonic() + HEALTHY_WITHIN_S
        await asyncio.sleep(0.5)
        while time.monotonic() < deadline_s:
            if self._is_healthy():
                return True
            await asyncio.sleep(0.05)
        away = [player.witness.name for player in self._players if not player.playing]
        self._findings.violations.append(f"after {after}: {', '.join(away) or 'not all'} not back")
        return False

    def _is_healthy(self) -> bool:
        return all(player.playing for player in self._players) and all(
            map(self._stack.is_ready, self._stack.names)
        )

    def _note(self, fault: chaos_plan.Fault) -> None:
        findings, kind = self._findings, fault.kind
        findings.rounds += 1
        gap_s = max(player.witness.gap_s() for player in self._players)
        lost_ms = max(player.witness.now.lost_ticks for player in self._players) * TICK_MS
        findings.resume_s.setdefault(kind.name, []).append(gap_s)
        findings.lost_ms.setdefault(kind.name, []).append(lost_ms)
        line = f"{kind.name} ({fault.target}, {fault.hold_s:g} s): {gap_s:.2f} s, {lost_ms} ms lost"
        if self._told:
            print(f"round {findings.rounds}: {line}", flush=True)
        promise_s = kind.resume_promise_s + fault.hold_s
        if gap_s > promise_s:
            findings.broken.append(line)
        if gap_s > TOLERATED * promise_s:
            findings.violations.append(line)


def _report(spec: Spec, findings: Findings, auditor: chaos_audit.Auditor) -> dict[str, Any]:
    crashes = [s for name, found in findings.resume_s.items() if name != "drain room-state"
               for s in found]  # fmt: skip
    drains = findings.resume_s.get("drain room-state", [])
    return {
        "rounds": findings.rounds,
        "violations": findings.violations,
        "broken_promises": findings.broken,
        "resume_s": spread(crashes),
        "gap_ms": spread([s * 1e3 for s in drains]),
        "lost_ms": spread([ms for found in findings.lost_ms.values() for ms in found]),
        "by_fault": {
            name: {"resume_s": spread(found), "lost_ms": spread(findings.lost_ms[name])}
            for name, found in sorted(findings.resume_s.items())
        },
        "snapshots": auditor.snapshots,
        "results": auditor.results,
        "workload": {"rooms": spec.rooms, "players": spec.rooms * PER_ROOM, "seed": spec.seed},
        "machine": machine.description(),
    }


def spread(found: Sequence[float]) -> dict[str, float | int | None]:
    """Median, 99th percentile and count."""
    ordered = sorted(found)
    figures = {
        f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 3)
        if ordered
        else None
        for p in (50, 99)
    }
    return {**figures, "count": len(ordered)}


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['rounds']} rounds, {len(report['violations'])} violations"]
    for name, figures in report["by_fault"].items():
        resume, lost = figures["resume_s"], figures["lost_ms"]
        lines.append(
            f"  {name:20} x{resume['count']:<3} without frames p50 {resume['p50']} s, "
            f"p99 {resume['p99']} s; lost p50 {lost['p50']} ms, p99 {lost['p99']} ms"
        )
    lines += [f"  BROKEN PROMISE {line}" for line in report["broken_promises"]]
    lines += [f"  VIOLATION {line}" for line in report["violations"]]
    return "\n".join(lines)
