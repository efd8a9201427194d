"""What dashboards draw of days that go wrong: refusals, a node that is drained, one that dies."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import sys
from pathlib import Path

import pytest
from tests.integration import test_recovery
from tests.integration.test_dashboards import targets, until
from tests.support import prometheus
from tests.support.dashboards import Unanswered, shown_by
from tests.support.players import playing, resumed

from rallypoint.cli.stack import Stack
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit.bus import Bus

HERE = "tests/integration/test_rare_figures.py"
NO_METHOD = "/rallypoint.v1.SessionService/Guess"
NO_TOKEN = "/rallypoint.v1.MatchmakingService/GetTicket"


def refused(stack: Stack, path: str) -> None:
    """A call that nobody answers well."""
    connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=10)
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    connection.request("POST", path, body=bytes(5), headers=headers)
    said = connection.getresponse()
    told = f"grpc-status: {said.getheader('grpc-status', '')}\n{said.read()!r}"
    assert re.search(r"grpc-status: ?[1-9]", told), told
    connection.close()


async def drained(stack: Stack, own: events_pb2.OwnRecord, *words: str) -> None:
    """Have a node's rooms go on elsewhere, or take rooms again."""
    command = ["drain", own.node_id, *words, "--data-dir", str(stack.wish.data_dir)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rallypoint", *command, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def go_wrong(stack: Stack, bus: Bus) -> None:
    """A match outlives two nodes: one that leaves and one that is killed."""
    async with playing(stack.url, "duel", "skirmish") as players:
        room_id = players[0].room.seat.room_id
        first = await test_recovery.own(bus, room_id)
        await drained(stack, first)
        await test_recovery.until(resumed(players, 2))
        await drained(stack, first, "--undo")
        second = await test_recovery.own(bus, room_id)
        assert second.node_id != first.node_id
        stack.kill(test_recovery.process_of(second))
        await test_recovery.until(resumed(players, 3))


@pytest.mark.timeout(180)
def test_what_is_rare_is_drawn(tmp_path: Path) -> None:
    prometheus.program("prometheus")
    unanswered = Unanswered(shown_by(HERE))
    assert len(unanswered.left) > 5

    async def scenario() -> None:
        async with (
            Stack(test_recovery.wish(tmp_path / "data", room_nodes=2)) as stack,
            test_recovery.on_bus(stack) as bus,
        ):
            with prometheus.running(tmp_path, targets(stack)) as served:
                await until(lambda: served.ask("rallypoint_fleet_nodes_count"), "a first look")
                await asyncio.to_thread(refused, stack, NO_METHOD)
                await asyncio.to_thread(refused, stack, NO_TOKEN)
                await go_wrong(stack, bus)
                with contextlib.suppress(AssertionError):
                    await until(lambda: unanswered.ask(served), "figures")
        assert unanswered.left == []

    asyncio.run(scenario())
