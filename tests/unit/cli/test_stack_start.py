"""How long a start may take: as long as something becomes ready now and then."""

from __future__ import annotations

import asyncio

import looptime
import pytest

from rallypoint.cli import stack


@pytest.mark.parametrize(
    ("ready_s", "starts"),
    [
        pytest.param([15, 30, 45, 60], True, id="slow, one after the other"),
        pytest.param([15, 90], False, id="one hangs"),
        pytest.param([], False, id="all hang"),
    ],
)
def test_a_start_is_given_up_only_when_nothing_comes(ready_s: list[int], starts: bool) -> None:
    async def scenario() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        ready: list[int] = []
        for at_s in ready_s:
            loop.call_later(at_s, ready.append, at_s)
        loop.call_later(max(ready_s, default=1000), done.set)
        assert await stack.settled(done, progress=lambda: len(ready)) is starts

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(scenario())
