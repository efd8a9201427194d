"""Who plays on an installed chart, and whether play goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from rallypoint.v1 import room_pb2
from tests.kube import chart_stack
from tests.kube.chart_stack import Release
from tests.support.players import Player, send_inputs, until

READY_S: Final = 120
PAIRS: Final = "pairs"


def queue(players: int, time_limit_s: int) -> str:
    """A queue of so many, as JSON."""
    document = {
        "game": "skirmish",
        "team_count": 8,
        "team_size": 1,
        "min_players": players,
        "max_players": players,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "ticket_ttl_s": 600,
        "options": {"time_limit_s": time_limit_s},
    }
    return json.dumps(document)


@contextmanager
def bots(url: str, queue: str, *, count: int, matches: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Players without people, as anybody would start them."""
    words = ["-m", "rallypoint", "bots", "--game", "skirmish", "--queue", queue, "--json"]
    words += ["--count", str(count), "--matches", str(matches), "--url", url]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def scored(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What they say in the end."""
    said, _ = process.communicate(timeout=READY_S)
    score: dict[str, Any] = json.loads(said)
    return score


@asynccontextmanager
async def pushing(players: Sequence[Player]) -> AsyncIterator[None]:
    """Have all of them never stop."""
    tasks = [asyncio.create_task(send_inputs(player)) for player in players]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def frames(players: Sequence[Player]) -> None:
    """All go on for two seconds of play, in the match and the seat that they had."""
    before = [len(player.seen.steps) for player in players]
    await until(
        lambda: all(
            len(player.seen.steps) > count + 40
            for player, count in zip(players, before, strict=True)
        )
    )
    for player in players:
        player.seen.check()
        assert player.room.ended is None
        kinds = {control.kind for control in player.seen.controls}
        assert room_pb2.CONTROL_KIND_KICKED not in kinds


def occupied(release: Release) -> list[str]:
    """The servers where somebody plays."""
    servers = release.items("gameservers")
    return [one["metadata"]["name"] for one in servers if one["status"].get("phase") == "Active"]


def some_occupied(release: Release) -> tuple[str, str]:
    """A server where somebody plays, and which pod it is; pairs may all be between two matches."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = occupied(release)
        return found != []

    assert chart_stack.within(is_there, READY_S), release.told()
    return found[0], release.uids()[found[0]]
