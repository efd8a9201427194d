"""One W3C trace covers a match from the ticket to the rating, read back from a real collector."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.collector import Collector, Span, collector

from rallypoint.cli import plan, ports
from rallypoint.cli.stack import Stack

SERVICES = {f"rallypoint-{name}" for name in ("gateway", "matchmaking", "fleet", "room-state")}
PATIENCE_S = 40.0


async def play_one_match(stack: Stack) -> None:
    """Let two bots play tic-tac-toe to its end."""
    options = ["--game", "tictactoe", "--count", "2", "--matches", "1", "--url", stack.url]
    bots = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rallypoint", "bots", *options, stdout=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(bots.wait(), timeout=PATIENCE_S) == 0


def complete(spans: list[Span]) -> bool:
    """Tell whether one trace has all four services and the consumer of the result."""
    traces = {s.trace_id for s in spans if s.name == "process result"}
    return any(
        {s.service for s in spans if s.trace_id == trace} >= SERVICES
        and any(s.parent_id for s in spans if s.name == "process result")
        for trace in traces
    )


async def wait_complete(received: Collector) -> None:
    while not complete(received.spans()):  # noqa: ASYNC110  # another process writes the file
        await asyncio.sleep(0.3)


@pytest.mark.timeout(600)  # the first run builds the collector
def test_one_trace_has_every_service_and_the_result(tmp_path: Path) -> None:
    async def scenario(received: Collector) -> None:
        environment = {"RALLYPOINT_OTLP_ENDPOINT": received.endpoint}
        wish = plan.Wish(
            data_dir=tmp_path / "data", web_port=ports.free_one(), environment=environment
        )
        async with Stack(wish) as stack:
            await play_one_match(stack)
            await asyncio.wait_for(wait_complete(received), timeout=PATIENCE_S)

    with collector(tmp_path) as received:
        asyncio.run(scenario(received))
