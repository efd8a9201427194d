"""A real Prometheus scrapes a stack: it answers dashboards, and alerts fire when things break."""

from __future__ import annotations

import asyncio
import functools
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.integration import test_bots
from tests.support import prometheus, waiting
from tests.support.dashboards import Unanswered, shown_by
from tests.support.prometheus import ROOT, RULES, Prometheus

from rallypoint import client
from rallypoint.cli import bots, plan, ports
from rallypoint.cli.stack import Stack
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId

ENDLESS = {**test_bots.DUEL, "queue": "endless", "options": {"time_limit_s": 600}}
RAISING = {**test_bots.DUEL, "queue": "raising", "game": "raising", "options": {}}
RAISING_GAME = """
from rallypoint.games import GameInfo, RoomGame

class Raising(RoomGame):
    info = GameInfo(name="raising", max_players=2, min_players=2)

    def on_tick(self, dt_s):
        if self.room.age_s > 0.5:
            raise ValueError("as the test wants")
"""
PLAYED = "sum(rallypoint_room_players_count) > 1"
PATIENCE_S = 60.0


def targets(stack: Stack) -> dict[str, list[str]]:
    services = [name for name in stack.names if name not in ("nats", "redis")]
    return {name: [stack.address(f"{name}/metrics")] for name in services}


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for Prometheus, which looks once a second."""
    asked = functools.partial(asyncio.to_thread, condition)
    await waiting.until(asked, what, within_s=PATIENCE_S, every_s=0.3)


def installed(folder: Path, name: str, source: str) -> dict[str, str]:
    """Install a game, as `pip install` would, for a stack with this environment."""
    about = folder / f"{name}_game-0.1.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}_game.py").write_text(source)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-game\nVersion: 0.1\n")
    entry = f"[rallypoint.games]\n{name} = {name}_game:{name.capitalize()}\n"
    (about / "entry_points.txt").write_text(entry)
    return {"PYTHONPATH": str(folder)}


@asynccontextmanager
async def playing(stack: Stack, queue: str, *, brain: str = "skirmish") -> AsyncIterator[None]:
    """Two bots that play, and stop afterwards."""
    squad = bots.Squad(stack.url, queue=queue, brain=brain, count=2, matches=0)
    task = asyncio.ensure_future(bots.play(squad, bots.Score()))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def play_one(stack: Stack) -> None:
    """A match from its ticket to its result."""
    squad = bots.Squad(stack.url, queue="duel", brain="skirmish", count=2, matches=1)
    await bots.play(squad, bots.Score())


async def knock(stack: Stack) -> None:
    """Open sessions, whether or not that works."""
    while True:
        with suppress(errors.RallypointError):
            async with client.connect(stack.url, name="Ada", game="skirmish"):
                pass
        await asyncio.sleep(0.1)


async def stutter(stack: Stack, name: str, *, stops_s: float, goes_s: float) -> None:
    """Take a process's core away, again and again."""
    try:
        while True:
            stack.kill(name, number=signal.SIGSTOP)
            await asyncio.sleep(stops_s)
            stack.kill(name, number=signal.SIGCONT)
            await asyncio.sleep(goes_s)
    finally:
        stack.kill(name, number=signal.SIGCONT)


def test_rules_hold_their_own_tests() -> None:
    tool = prometheus.program("promtool")
    for words in (["check", "rules", str(RULES)], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(
            [tool, *words],
            cwd=ROOT / "helm" / "observe",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def asking(served: Prometheus) -> AsyncIterator[None]:
    """Meanwhile ask what the dashboards ask, until each query has had figures; it must then."""
    unanswered = Unanswered(shown_by())

    async def ask() -> None:
        while not await asyncio.to_thread(unanswered.ask, served):  # noqa: ASYNC110  # it looks
            await asyncio.sleep(2)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ask())
        yield
        task.cancel()
    assert unanswered.left == []


async def fires(served: Prometheus, *names: str) -> None:
    """Wait until each has fired."""
    for name in names:
        query = f'max_over_time(ALERTS{{alertname="{name}", alertstate="firing"}}[2m])'
        await until(functools.partial(served.ask, query), name)


async def slow_down(stack: Stack, served: Prometheus) -> None:
    """Others take the cores of those who need them."""
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(stutter(stack, "room-state-1", stops_s=0.8, goes_s=0.4))
        await fires(served, "RallypointTicksDropped", "RallypointTicksLate")
        slow.cancel()
    async with playing(stack, "duel"), asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(stutter(stack, "matchmaking", stops_s=2.5, goes_s=0.4))
        await fires(served, "RallypointEdgeSlow")
        slow.cancel()


async def cut_off(stack: Stack, served: Prometheus) -> None:
    """Brokers go, and come back."""
    await stack.hold("nats")
    stack.kill("fleet", number=signal.SIGSTOP)
    await fires(served, "RallypointBrokerAway", "RallypointSnapshotsOld")
    await fires(served, "RallypointRoomsFrozen", "RallypointNoLeader")
    stack.kill("fleet", number=signal.SIGCONT)
    await stack.release("nats")
    await until(lambda: "RallypointBrokerAway" not in served.firing(), "NATS is back")
    await stack.hold("redis")
    async with asyncio.TaskGroup() as tasks:
        knocking = tasks.create_task(knock(stack))
        await fires(served, "RallypointStoreErrors", "RallypointEdgeErrors")
        knocking.cancel()
    await stack.release("redis")


async def publish_junk(stack: Stack) -> None:
    """A fact that its worker has to give up."""
    bus = await Bus.connect(stack.nats_url, name="test")
    await bus.publish_fact(subjects.room("closed", RoomId("junk")), b"\xff", msg_id="junk")
    await bus.close()


async def break_things(stack: Stack, served: Prometheus) -> None:
    """One after the other; each must be seen by its alert."""
    await publish_junk(stack)
    await fires(served, "RallypointDeadLetters")
    async with playing(stack, "raising", brain="restless"):
        await fires(served, "RallypointGameRaises")
    async with playing(stack, "endless"):
        await until(functools.partial(served.ask, PLAYED), "they play")
        await fires(served, "RallypointSlotsFew")
        await slow_down(stack, served)
        await until(functools.partial(served.ask, PLAYED), "they still play")
        await cut_off(stack, served)
        await until(functools.partial(served.ask, PLAYED), "they play again")
        stack.kill("room-state-1", number=signal.SIGTERM, for_good=True)
        await fires(served, "RallypointNotReady")  # it drains, and has nowhere to move its room
        stack.kill("room-state-1", for_good=True)
        await fires(served, "RallypointServiceAway", "RallypointRoomsLost")
    async with playing(stack, "duel"):
        await fires(served, "RallypointAllocationsFail")


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_dashboards_are_answered_and_alerts_fire(tmp_path: Path) -> None:
    prometheus.program("prometheus")

    async def scenario() -> None:
        wish = plan.Wish(
            data_dir=tmp_path / "data",
            web_port=ports.free_one(),
            queues=(test_bots.DUEL, ENDLESS, RAISING),
            environment=installed(tmp_path / "games", "raising", RAISING_GAME),
            room_capacity=1,
        )
        async with Stack(wish) as stack:
            with prometheus.running(tmp_path, targets(stack)) as served:
                async with asking(served):
                    await play_one(stack)
                    await until(lambda: bool(served.ask("rallypoint_mm_results_total")), "a rating")
                    assert not served.firing() & {"RallypointNotReady", "RallypointServiceAway"}
                    await asyncio.sleep(2.5)  # rates need two looks
                    await break_things(stack, served)

    asyncio.run(scenario())
