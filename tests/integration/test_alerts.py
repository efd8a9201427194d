"""Alerts about players who wait, read slowly, or whose room was never made: made to happen.

The others fire in `test_dashboards`. Here players really wait for more than a minute, and the rest
happens meanwhile.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.integration import test_bots
from tests.integration.slow_reader import SlowReader
from tests.integration.test_dashboards import fires, installed, targets
from tests.support import prometheus

from rallypoint import client
from rallypoint.cli import bots, plan, ports
from rallypoint.cli.stack import Stack
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc
from rallypoint.kit import keys, names, rpc
from rallypoint.kit.names import SetName
from rallypoint.kit.store import Store
from rallypoint.v1 import room_pb2

CROWD = 36  # more than thirty in five minutes are told of
ABANDONED = 6  # more than three
PATIENT = {**test_bots.DUEL, "queue": "patient", "team_count": 4, "max_players": 4}
PATIENT["min_after_s"] = 61
LOUD = {**test_bots.DUEL, "queue": "loud", "game": "loud", "options": {}}
LOUD |= {"team_count": CROWD, "min_players": CROWD, "max_players": CROWD}
LOUD_GAME = """
import numpy as np
from rallypoint.games import GameInfo, RoomGame, Table, u32

class Noise(Table, rows=1024):
    value = u32()

class Loud(RoomGame):
    info = GameInfo(name="loud", max_players=64, min_players=2)
    tables = (Noise,)

    def on_tick(self, dt_s):
        self.room.table(Noise).value = np.random.randint(0, 1 << 32, 1024, dtype=np.uint32)
"""
CLAIM_TTL_S = 7
PATIENCE_S = 30


@asynccontextmanager
async def waiting(stack: Stack) -> AsyncIterator[None]:
    """Two who wait until nobody else can be hoped for; four that had not to, before them."""
    at_once = bots.Squad(stack.url, queue="patient", brain="skirmish", count=4, matches=1)
    await bots.play(at_once, bots.Score())
    long = bots.Squad(stack.url, queue="patient", brain="skirmish", count=2, matches=1)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(bots.play(long, bots.Score()))
        yield
        task.cancel()


@asynccontextmanager
async def slow_readers(stack: Stack) -> AsyncIterator[None]:
    """A match whose players take their seats and read nothing."""
    async with AsyncExitStack() as open_:
        sessions = [
            await open_.enter_async_context(client.connect(stack.url, name="Ada", game="loud"))
            for _ in range(CROWD)
        ]
        finding = [client.Matchmaking(session).find("loud") for session in sessions]
        for session, seat in zip(sessions, await asyncio.gather(*finding), strict=True):
            join = room_pb2.JoinRequest(room_id=seat.room_id, seat_tokens=[seat.seat_token])
            path = "/rallypoint.v1.RoomService/Join"
            reader = SlowReader(stack.wish.web_port, session.access_token, path, join)
            open_.callback(reader.socket.close)
        yield


async def abandon(stack: Stack) -> None:
    """Have fleet die after it has claimed slots and before their rooms are made."""
    store = await Store.connect(stack.redis_url)
    taken = keys.fleet_claims(SetName("local"))
    before = len(await store.hgetall(taken))
    stack.kill("room-state-1", number=signal.SIGSTOP)
    try:
        async with rpc.channel(stack.address("fleet/grpc"), name="test") as channel:
            stub = allocation_pb2_grpc.AllocationServiceStub(channel)
            asked = [asyncio.ensure_future(allocate(stub)) for _ in range(ABANDONED)]
            async with asyncio.timeout(PATIENCE_S):
                full = before + ABANDONED
                while len(await store.hgetall(taken)) < full:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.02)
            stack.kill("fleet")
            await asyncio.gather(*asked, return_exceptions=True)
    finally:
        stack.kill("room-state-1", number=signal.SIGCONT)
        await store.close()


async def allocate(stub: allocation_pb2_grpc.AllocationServiceAsyncStub) -> None:
    request = allocation_pb2.AllocateRequest(
        request_id=names.new_id(), set="local", game="skirmish"
    )
    async with rpc.calling():
        await stub.Allocate(request, timeout=PATIENCE_S)


@pytest.mark.timeout(300)
def test_alerts_tell_of_players_who_wait_or_are_thrown_out(tmp_path: Path) -> None:
    prometheus.program("prometheus")

    async def scenario() -> None:
        wish = plan.Wish(
            data_dir=tmp_path / "data",
            web_port=ports.free_one(),
            queues=(PATIENT, LOUD),
            environment={
                **installed(tmp_path / "games", "loud", LOUD_GAME),
                "RALLYPOINT_CLAIM_TTL_S": str(CLAIM_TTL_S),
            },
            room_capacity=16,
        )
        async with Stack(wish) as stack:
            with prometheus.running(tmp_path, targets(stack)) as served:
                async with waiting(stack):
                    async with slow_readers(stack):
                        await fires(served, "RallypointClientsKicked")
                    await abandon(stack)
                    await fires(served, "RallypointClaimsExpire", "RallypointMatchesSlow")

    asyncio.run(scenario())
