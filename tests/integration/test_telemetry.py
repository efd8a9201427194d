"""Traces, metrics and logs of a stack arrive at a back end through the chart's own collector."""

from __future__ import annotations

import asyncio
import functools
import http.client
import secrets
from pathlib import Path

import pytest
from tests.integration import test_bots, test_trace
from tests.support import collector, waiting
from tests.support.collector import Collector

from rallypoint.cli import bots
from rallypoint.cli.stack import Stack
from rallypoint.v1 import session_pb2

CLIENT_TRACE = secrets.token_hex(16)
JOIN = "/rallypoint.v1.RoomService/Join"
OPEN = "/rallypoint.v1.SessionService/OpenSession"
PING = "/rallypoint.internal.v1.RoomHostService/Ping"
SETTLED_S = 0.5
"""After which a match has nothing but ticks, inputs and frames."""
PLAYERS = 2
PATIENCE_S = 40.0

until = functools.partial(waiting.until, within_s=PATIENCE_S, every_s=0.3)


def open_session(url: str, *, flag: str) -> None:
    """A client's call with a traceparent of its own."""
    request = session_pb2.OpenSessionRequest(game="tictactoe", build="0", protocol=1)
    request.guest.device_secret = secrets.token_bytes(32)
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    message = request.SerializeToString()
    connection.request(
        "POST",
        OPEN,
        body=bytes(1) + len(message).to_bytes(4, "big") + message,
        headers={
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "traceparent": f"00-{CLIENT_TRACE}-b7ad6b7169203331-{flag}",
        },
    )
    assert b"grpc-status" in connection.getresponse().read().lower()
    connection.close()


async def play(stack: Stack) -> None:
    """A match of turns for the trace, one of ticks for what must not be traced."""
    await test_trace.play_one_match(stack)
    squad = bots.Squad(stack.url, queue="duel", brain="skirmish", count=PLAYERS, matches=1)
    score = bots.Score()
    await asyncio.wait_for(bots.play(squad, score), timeout=PATIENCE_S)
    assert score.matches == PLAYERS
    await asyncio.to_thread(open_session, stack.url, flag="00")


def all_metrics(received: Collector) -> bool:
    found = received.metrics()
    return {
        "rallypoint_gateway_calls_total" in found.get("rallypoint-gateway", ()),
        "rallypoint_mm_ticket_wait_seconds" in found.get("rallypoint-matchmaking", ()),
        "rallypoint_fleet_allocate_duration_seconds" in found.get("rallypoint-fleet", ()),
        "rallypoint_room_tick_duration_seconds" in found.get("rallypoint-room-state", ()),
    } == {True}


@pytest.mark.timeout(600)  # the first run builds the collector
def test_all_signals_pass_through_the_charts_collector(tmp_path: Path) -> None:
    async def scenario(received: Collector, endpoint: str) -> None:
        environment = {
            "RALLYPOINT_OTLP_ENDPOINT": endpoint,
            "RALLYPOINT_OTLP_METRICS_EVERY_S": "0.5",
        }
        wish = test_bots.wish(tmp_path / "data", environment=environment)
        async with Stack(wish) as stack:
            await play(stack)
            await until(lambda: test_trace.complete(received.spans()))
            await until(lambda: CLIENT_TRACE in {s.trace_id for s in received.spans()})
            await until(lambda: all_metrics(received))
            await until(lambda: {s for s, _ in received.logs()} >= test_trace.SERVICES)

    with collector.collector(tmp_path) as received, collector.in_front(received) as endpoint:
        asyncio.run(scenario(received, endpoint))
    spans, logs = received.spans(), received.logs()
    # A match of four seconds at 20 Hz had some 80 ticks and 160 inputs: none has a span.
    joined = [span.began_s for span in spans if span.name == JOIN]
    closed = [span.began_s for span in spans if span.name == "close room"]
    begins, ends = max(joined) + SETTLED_S, max(closed)
    assert ends - begins > 2
    assert {span.name for span in spans if begins < span.began_s < ends} <= {PING}
    assert [span.name for span in spans if span.trace_id == CLIENT_TRACE] == [OPEN]
    assert "starting" in {record["body"]["stringValue"] for _, record in logs}
