"""Who decides what is recorded: the edge does, whatever a client's sampling flag says."""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from tests.integration import test_bots
from tests.support import collector, waiting
from tests.support.collector import Collector

from rallypoint.cli import datadir
from rallypoint.cli.stack import Stack
from rallypoint.kit import names
from rallypoint.v1 import matchmaking_pb2, session_pb2

SERVICES = "/rallypoint.v1."
RECORDED = {"rallypoint-gateway", "rallypoint-matchmaking", "rallypoint-fleet"}
PATIENCE_S = 40.0

until = functools.partial(waiting.until, within_s=PATIENCE_S, every_s=0.2)


class Client(NamedTuple):
    """Calls the native edge, within a trace of its own."""

    channel: grpc.aio.Channel
    trace_id: str
    flag: str

    async def call(self, method: str, request: bytes, token: str = "") -> bytes:
        """One call."""
        parent = f"00-{self.trace_id}-{secrets.token_hex(8)}-{self.flag}"
        metadata = [("traceparent", parent)]
        if token:
            metadata.append(("authorization", f"Bearer {token}"))
        call = self.channel.unary_unary(SERVICES + method)
        answer: bytes = await call(request, metadata=metadata, timeout=PATIENCE_S)
        return answer

    async def search(self) -> None:
        """One player begins to look for a match."""
        opened = session_pb2.OpenSessionRequest(game="skirmish", build="0", protocol=1)
        opened.guest.device_secret = secrets.token_bytes(32)
        answer = await self.call("SessionService/OpenSession", opened.SerializeToString())
        token = session_pb2.OpenSessionResponse.FromString(answer).session.access_token
        wanted = matchmaking_pb2.CreateTicketRequest(request_id=names.new_id(), queue="duel")
        await self.call("MatchmakingService/CreateTicket", wanted.SerializeToString(), token)


def logged(data_dir: Path, received: Collector, trace_id: str) -> list[set[str]]:
    """The events that matchmaking logged within a trace: on standard error, and over OTLP.

    Of failures those of which the fleet said so: it may have been out of reach at first.
    """
    text = (datadir.logs(data_dir) / "matchmaking.log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    records = [r for s, r in received.logs() if s == "rallypoint-matchmaking"]
    return [
        {
            line["event"]
            for line in lines
            if (line.get("trace_id"), line.get("reason")) == (trace_id, "FLEET_FULL")
        },
        {r["body"]["stringValue"] for r in records if r.get("traceId") == trace_id},
    ]


@pytest.mark.timeout(600)  # the first run builds the collector
@pytest.mark.parametrize(
    ("ratio", "flag"), [("0", "01"), ("1", "00")], ids=["nothing", "everything"]
)
def test_edge_decides_and_a_clients_trace_id_is_kept(tmp_path: Path, ratio: str, flag: str) -> None:
    trace_id = secrets.token_hex(16)

    async def scenario(received: Collector) -> None:
        wish = test_bots.wish(
            tmp_path / "data",
            kinds=("fleet", "matchmaking", "gateway"),
            environment={
                "RALLYPOINT_OTLP_ENDPOINT": received.endpoint,
                "RALLYPOINT_TRACE_RATIO": ratio,
                "RALLYPOINT_ALLOCATE_PATIENCE_S": "0.2",
            },
        )
        async with (
            Stack(wish) as stack,
            grpc.aio.insecure_channel(stack.address("gateway-1/native")) as channel,
        ):
            player = Client(channel, trace_id, flag)
            await asyncio.gather(player.search(), player.search())
            # There is no node for their room: what matchmaking says of it, far from the edge, it
            # says within the client's trace.
            said = functools.partial(logged, tmp_path / "data", received, trace_id)
            await until(lambda: all("allocate_failed" in events for events in said()))

    with collector.collector(tmp_path) as received:
        asyncio.run(scenario(received))  # which ends the services: they send what they have
    spans = received.spans()  # once the collector has ended: it writes what it had
    ours = {span.service for span in spans if span.trace_id == trace_id}
    assert ours == (RECORDED if ratio == "1" else set())
    opened = [span for span in spans if span.name == SERVICES + "SessionService/OpenSession"]
    assert len(opened) == (2 if ratio == "1" else 0)  # one for each player's call
    assert ratio == "1" or not spans
