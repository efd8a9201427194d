"""What the kernel saw of a socket and what the application did with it meet in one number."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

import grpc
import pytest
from tests.integration.test_trace import PATIENCE_S, play_one_match
from tests.support.collector import Collector, Span, collector

from rallypoint.cli import plan, ports
from rallypoint.cli.stack import Stack
from rallypoint.probe import session, wish
from rallypoint.probe.domain.layout import Config, EventKind

pytestmark = pytest.mark.usefixtures("allowed")
ALL_ARE_SLOW = Config(every_cgroup=True, slow_ns=1, adopt=True)
NATIVE = "/rallypoint.v1.SessionService/OpenSession"


def spans_with_cookies(received: Collector) -> dict[str, list[Span]]:
    """By service; a call on the native edge, which is none of the bots', apart."""
    found: dict[str, list[Span]] = {}
    for span in received.spans():
        if span.cookie:
            of = span.service if span.trace_id != TRACE else "native"
            found.setdefault(of, []).append(span)
    return found


TRACE = secrets.token_hex(16)
EXPECTED = {"rallypoint-gateway", "rallypoint-room-state", "rallypoint-fleet", "native"}


async def call_native(address: str) -> None:
    """One call by gRPC's own library, whose trace is recorded."""
    traced = (("traceparent", f"00-{TRACE}-{secrets.token_hex(8)}-01"),)
    async with grpc.aio.insecure_channel(address) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):  # refused or not: it has a span
            await channel.unary_unary(NATIVE)(b"", metadata=traced)


async def cookies_of_events(probe: session.Session, into: set[str]) -> None:
    while True:
        into.update(str(e.cookie) for e in probe.events() if e.kind is EventKind.SLOW)
        await asyncio.sleep(0.1)


async def wait_spans(received: Collector) -> None:
    while not spans_with_cookies(received).keys() >= EXPECTED:  # noqa: ASYNC110  # a file
        await asyncio.sleep(0.3)


@pytest.mark.timeout(600)  # the first run builds the collector
def test_an_event_of_the_kernel_leads_to_the_trace_of_the_call(tmp_path: Path) -> None:
    port = ports.free_one()
    cookies: set[str] = set()

    async def scenario(received: Collector, probe: session.Session) -> None:
        environment = {"RALLYPOINT_OTLP_ENDPOINT": received.endpoint}
        stack = plan.Wish(data_dir=tmp_path / "data", web_port=port, environment=environment)
        async with Stack(stack) as running:
            for listener in ("gateway-1/native", "room-state-1/grpc", "fleet/grpc"):
                probe.watch_port(int(running.address(listener).rpartition(":")[2]))
            reading = asyncio.create_task(cookies_of_events(probe, cookies))
            await play_one_match(running)
            await call_native(running.address("gateway-1/native"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wait_spans(received), timeout=PATIENCE_S)
            reading.cancel()

    wanted = wish.Wanted(ports=(port,), config=ALL_ARE_SLOW)
    with collector(tmp_path) as received, session.Session(wanted) as probe:
        asyncio.run(scenario(received, probe))
        found = spans_with_cookies(received)
    joined = {of for of, spans in found.items() if any(one.cookie in cookies for one in spans)}
    assert joined >= EXPECTED
    assert all(len(one.trace_id) == 32 for spans in found.values() for one in spans)
