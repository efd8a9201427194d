"""Alerts about players who wait, read slowly, or whose room was never made, and about what brokers
keep: made to happen.

The others fire in `test_dashboards`. Here players really wait for more than a minute, and the rest
happens meanwhile; and brokers have a disk that is late, then full, and a stream that refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.integration import test_bots
from tests.integration.slow_reader import SlowReader
from tests.integration.test_dashboards import fires, installed, targets, until
from tests.support import bad_disk, prometheus
from tests.support.bad_disk import BadDisk
from tests.support.prometheus import Prometheus

from rallypoint import client
from rallypoint.cli import bots, plan, ports
from rallypoint.cli.stack import Stack
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc
from rallypoint.kit import errors, keys, names, rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import QueueName, SetName
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
SMALL = 1 << 20
PIECE = bytes(100_000)


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


async def write_always(stack: Stack) -> None:
    """Write to Redis as busy fleets do, whether or not it takes it."""
    store = await Store.connect(stack.redis_url)
    try:
        while True:
            with contextlib.suppress(errors.RallypointError):
                await store.set("written", "always")
            await asyncio.sleep(0.1)
    finally:
        await store.close()


async def wear_out(stack: Stack, served: Prometheus, disk: BadDisk) -> None:
    """Redis' disk is late, then full, and then well."""
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write_always(stack))
        with disk.being("late"):
            await fires(served, "RallypointStoreSyncsLate")
        assert "RallypointStoreUnsaved" not in served.firing()
        with disk.being("full"):
            await fires(served, "RallypointStoreUnsaved")
        await until(lambda: "RallypointStoreUnsaved" not in served.firing(), "it writes again")
        writing.cancel()


async def fill_results(stack: Stack, served: Prometheus) -> None:
    """Results come until the stream takes no more; it is made smaller first."""
    bus, name = await Bus.connect(stack.nats_url, name="test"), subjects.RESULTS.name
    config = (await bus.api(f"STREAM.INFO.{name}"))["config"]
    await bus.api(f"STREAM.UPDATE.{name}", {**config, "max_bytes": SMALL})
    subject = subjects.result(QueueName("nobody"))
    for number in range(SMALL // len(PIECE)):
        await bus.publish_fact(subject, PIECE, msg_id=str(number))
    with pytest.raises(errors.RallypointError, match="maximum bytes exceeded"):
        await bus.publish_fact(subject, PIECE, msg_id="too much")
    await fires(served, "RallypointStreamFull")
    full = served.ask('ALERTS{alertname="RallypointStreamFull", alertstate="firing"}')
    assert {one["metric"]["stream"] for one in full} == {name}
    await bus.close()


@pytest.mark.timeout(180)
def test_alerts_tell_of_brokers_that_take_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus.program("prometheus")
    disk = bad_disk.made(tmp_path / "disk")
    for name, value in disk.environment.items():
        monkeypatch.setenv(name, value)  # brokers have the environment of who starts them

    async def scenario() -> None:
        wish = plan.Wish(data_dir=tmp_path / "data", web_port=ports.free_one())
        async with Stack(wish) as stack:
            with prometheus.running(tmp_path, targets(stack)) as served:
                looked = 'rallypoint_bus_stream_fill_ratio{stream="RESULTS"}'
                await until(lambda: served.ask(looked), "a first look")
                assert not served.firing() & {"RallypointStoreSyncsLate", "RallypointStreamFull"}
                await wear_out(stack, served, disk)
                await fill_results(stack, served)

    asyncio.run(scenario())
