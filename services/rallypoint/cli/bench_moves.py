"""`rallypoint bench moves`: a room with 64 KB of state is moved to and fro while it is played.

Starts its own stack (two room nodes, one gateway, both brokers) and one room of the game `freight`,
or of `ledger`, which has next to no state, to compare with.

    gap_ms          per move, the longest any player was without a frame, one tick of 50 ms included
    stood_still_ms  how long the room did not tick, as its node says
    violations      what must not happen: an epoch that goes back, an input applied twice or lost, a
                    stream that had to be opened again, a match that ends
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_chaos, chaos_players, machine, plan, ports, stack
from rallypoint.games import ledger
from rallypoint.internal.v1 import fleet_admin_pb2 as admin
from rallypoint.internal.v1 import fleet_admin_pb2_grpc
from rallypoint.kit import rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId

GAMES = {"freight": ledger.EXTRA_FREIGHT, "ledger": ledger.EXTRA}
PROMISED_MS = 150
SETTLE_S = 0.5
"""Undisturbed play between two moves."""
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What was asked for."""

    moves: int
    game: str


@dataclass(slots=True)
class Findings:
    """What came of it."""

    violations: list[str] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)
    stood_still_ms: list[float] = field(default_factory=list)
    state_bytes: int = 0


def run(arguments: list[str]) -> int:
    """Move and print what came of it; 1 when something happened that must not."""
    parsed = _parser().parse_args(arguments)
    report = asyncio.run(measure(Spec(moves=parsed.moves, game=parsed.game)))
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["violations"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench moves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--moves", type=int, default=40, help="(%(default)s)")
    parser.add_argument("--game", choices=GAMES, default="freight", help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def measure(spec: Spec) -> dict[str, Any]:
    """Play, move and end one match on a stack of its own; the report."""
    findings = Findings()
    async with contextlib.AsyncExitStack() as opened:
        directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="rallypoint-moves-"))
        wish = plan.Wish(
            data_dir=Path(directory),
            web_port=ports.free_one(),
            room_nodes=2,
            queues=(bench_chaos.queue_of(spec.game),),
            environment={"RALLYPOINT_EXTRA_GAMES": GAMES[spec.game]},
        )
        running = await opened.enter_async_context(stack.Stack(wish))
        bus = await Bus.connect(running.nats_url, name="moves")
        opened.push_async_callback(bus.close)
        address = running.address("fleet/grpc")
        channel = await opened.enter_async_context(rpc.channel(address, name="moves"))
        fleet = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
        await _Match(spec, running.url, findings).play(fleet, bus)
    return _report(spec, findings)


class _Match:
    """The players of the one room."""

    def __init__(self, spec: Spec, url: str, findings: Findings) -> None:
        self._spec = spec
        self._findings = findings
        self._players = [
            chaos_players.Player(url, f"player-{number}", findings.violations, game=spec.game)
            for number in range(bench_chaos.PER_ROOM)
        ]

    async def play(self, fleet: Any, bus: Bus) -> None:
        """Bring everybody in, move the room, end the match."""
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            playing = [
                tasks.create_task(player.run(ending), name=player.witness.name)
                for player in self._players
            ]
            if await self._all_play(epoch=1):
                await self._move_all(fleet, bus)
            self._check_players()
            ending.set()
            _, late = await asyncio.wait(playing, timeout=WITHIN_S)
            for match in late:
                self._findings.violations.append(f"{match.get_name()}: the match did not end")
                match.cancel()

    async def _move_all(self, fleet: Any, bus: Bus) -> None:
        room_id = self._players[0].room_id
        for _ in range(self._spec.moves):
            await asyncio.sleep(SETTLE_S)
            for player in self._players:
                player.witness.begin()
            async with rpc.calling():
                moved = await fleet.MoveRoom(admin.MoveRoomRequest(room_id=room_id))
            if not await self._all_play(epoch=moved.epoch):
                return
            gap_s = max(player.witness.gap_s() for player in self._players)
            self._findings.gap_ms.append(gap_s * 1e3)
            self._findings.stood_still_ms.append(moved.gap_ms)
        entry = await bus.kv(subjects.OWNERS.name).get(subjects.snapshot(RoomId(room_id)))
        self._findings.state_bytes = len(entry.value or b"") if entry is not None else 0

    async def _all_play(self, *, epoch: int) -> bool:
        """Wait until everybody gets frames of an epoch; else that is a violation."""
        give_up = time.monotonic() + WITHIN_S
        while time.monotonic() < give_up:
            if all(player.playing and player.witness.epoch >= epoch for player in self._players):
                return True
            await asyncio.sleep(0.01)
        self._findings.violations.append(f"not everybody got to epoch {epoch}")
        return False

    def _check_players(self) -> None:
        for player in self._players:
            connection = player.connection
            if connection is None:
                continue
            if connection.joins > 1 or connection.breaks:
                player.witness.violated(f"{connection.joins} joins, breaks {connection.breaks}")
            seat = connection.seat
            applied = int(seat.tables["entries"]["applied"][seat.slot])
            if applied != seat.ack:
                player.witness.violated(f"{seat.ack} inputs acknowledged, {applied} applied")


def _report(spec: Spec, findings: Findings) -> dict[str, Any]:
    return {
        "moves": len(findings.gap_ms),
        "state_bytes": findings.state_bytes,
        "gap_ms": bench_chaos.spread(findings.gap_ms),
        "stood_still_ms": bench_chaos.spread(findings.stood_still_ms),
        "promised_ms": PROMISED_MS,
        "violations": findings.violations,
        "workload": {"game": spec.game, "players": bench_chaos.PER_ROOM, "tick_hz": 20},
        "machine": machine.description(),
    }


def _text(report: dict[str, Any]) -> str:
    gap, still = report["gap_ms"], report["stood_still_ms"]
    lines = [
        f"{report['moves']} moves of a room with {report['state_bytes']} bytes of state",
        f"  without frames p50 {gap['p50']} ms, p99 {gap['p99']} ms (promised {PROMISED_MS})",
        f"  stood still    p50 {still['p50']} ms, p99 {still['p99']} ms",
    ]
    return "\n".join([*lines, *(f"  VIOLATION {line}" for line in report["violations"])])
