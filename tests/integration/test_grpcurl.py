"""A third party's native gRPC client, grpcurl, against the gateway's native port."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from tests.support import go

from rallypoint.cli import plan, ports
from rallypoint.cli.stack import Stack

GUEST = json.dumps(
    {"guest": {"deviceSecret": "AAECAwQFBgcICQoLDA0ODw=="}, "game": "skirmish", "protocol": 1}
)


def grpcurl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run grpcurl; options come before the address, the method after it."""
    *options, method = arguments
    command = [str(go.tool("grpcurl")), "-plaintext", "-max-time", "10", *options, address, method]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def call(address: str, method: str, data: str, *options: str) -> subprocess.CompletedProcess[str]:
    return grpcurl(address, "-d", data, *options, f"rallypoint.v1.{method}")


def talk(address: str) -> None:
    """List by reflection, open a session, read a queue, and be refused without a session."""
    listed = grpcurl(address, "list").stdout.split()
    assert {"rallypoint.v1.RoomService", "grpc.health.v1.Health"} <= set(listed)
    opened = call(address, "SessionService/OpenSession", GUEST)
    assert opened.returncode == 0, opened.stderr
    bearer = "authorization: Bearer " + json.loads(opened.stdout)["session"]["access_token"]
    queues = call(address, "MatchmakingService/ListQueues", "{}", "-H", bearer)
    assert "skirmish" in [q["queue"] for q in json.loads(queues.stdout)["queues"]]
    refused = call(address, "MatchmakingService/ListQueues", "{}")
    assert "Unauthenticated" in refused.stderr


@pytest.mark.timeout(300)  # the first run builds grpcurl
def test_grpcurl_lists_calls_and_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stack(plan.Wish(data_dir=tmp_path, web_port=ports.free_one())) as stack:
            await asyncio.to_thread(talk, stack.address("gateway-1/native"))

    asyncio.run(scenario())
