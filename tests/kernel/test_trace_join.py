"""What the kernel saw of a socket and what the application did with it meet in one number."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.test_trace import PATIENCE_S, play_one_match
from tests.support.collector import Collector, collector

from rallypoint.cli import plan, ports
from rallypoint.cli.stack import Stack
from rallypoint.probe import session, wish
from rallypoint.probe.domain.layout import Config, EventKind

pytestmark = pytest.mark.usefixtures("allowed")
ALL_ARE_SLOW = Config(every_cgroup=True, slow_ns=1)


def traces_by_cookie(received: Collector) -> dict[str, str]:
    return {span.cookie: span.trace_id for span in received.spans() if span.cookie}


async def wait_spans(received: Collector) -> None:
    while not traces_by_cookie(received):  # noqa: ASYNC110  # another process writes the file
        await asyncio.sleep(0.3)


@pytest.mark.timeout(600)  # the first run builds the collector
def test_an_event_of_the_kernel_leads_to_the_trace_of_the_call(tmp_path: Path) -> None:
    port = ports.free_one()
    cookies: set[str] = set()

    async def scenario(received: Collector, probe: session.Session) -> None:
        environment = {"RALLYPOINT_OTLP_ENDPOINT": received.endpoint}
        stack = plan.Wish(data_dir=tmp_path / "data", web_port=port, environment=environment)
        async with Stack(stack) as running:
            await play_one_match(running)
            events = probe.events()
            cookies.update(str(e.cookie) for e in events if e.kind is EventKind.SLOW)
            await asyncio.wait_for(wait_spans(received), timeout=PATIENCE_S)

    wanted = wish.Wanted(ports=(port,), config=ALL_ARE_SLOW)
    with collector(tmp_path) as received, session.Session(wanted) as probe:
        asyncio.run(scenario(received, probe))
        traces = traces_by_cookie(received)
    joined = {traces[cookie] for cookie in traces.keys() & cookies}
    assert joined
    assert all(len(trace) == 32 for trace in joined)
