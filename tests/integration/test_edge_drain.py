"""The drain: armed connections come and go, and lose nothing on the way."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.integration.conftest import Runs
from tests.integration.test_edge_express import (
    DRAIN,
    HOT,
    PATH,
    ROOM,
    WAYS,
    Door,
    door,
    hot,
    message,
    post,
    say,
    told,
)
from tests.integration.test_edge_websocket import closed_with, end_of, raw, reason_of
from tests.support.edge import HOST, Wire, tuned, until, wire

from rallypoint.client import websocket_frames
from rallypoint.gateway import web_drain
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.rooms_stream import Hold

pytestmark = pytest.mark.skipif(DRAIN not in WAYS, reason="the drain was not compiled")
OK = (200, 0, "")


def drain_of(opened: Door) -> web_drain.InputDrain:
    assert opened.drain is not None
    return opened.drain


async def rearm(opened: Door, request: bytes) -> None:
    """Send until the connection is armed again."""
    for _ in range(300):
        if drain_of(opened).connections:
            return
        assert await say(opened, request) == [OK]
    raise AssertionError("not armed again")


def test_requests_of_all_lengths_stay_with_the_drain(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            passed = opened.passed
            for count in range(9):
                for size in (0, 1, 64):
                    said = message(token, *[b"x" * size] * count, seq=10 ** (count % 9))
                    assert await say(opened, post(access, grpcweb.frame(said))) == [OK]
            assert opened.passed == passed
            assert drain_of(opened).inputs == opened.board.counts.inputs - 5
            assert drain_of(opened).connections == 1

    runs(scenario())


@pytest.mark.parametrize("cut", [1, 40, 200, -1])
def test_half_a_request_goes_back_and_is_completed(runs: Runs, cut: int) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            opened.client.send(request[:cut])
            await until(lambda: drain_of(opened).connections == 0)
            assert opened.board.counts.inputs == HOT
            assert await say(opened, request[cut:]) == [OK]
            assert opened.board.counts.inputs == HOT + 1
            await rearm(opened, request)

    runs(scenario())


def test_requests_in_advance_are_all_answered(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            opened.client.send(request * 3)
            assert [told(await opened.client.response()) for _ in range(3)] == [OK] * 3
            assert opened.board.counts.inputs == HOT + 3

    runs(scenario())


def test_end_within_a_request_ends_the_connection(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            opened.client.send(post(access, grpcweb.frame(message(token)))[:-3])
            opened.client.writer.write_eof()
            assert await opened.client.ends() == b""
            await until(lambda: opened.running.edge.statistics().connections == 0)
            assert opened.board.counts.inputs == HOT

    runs(scenario())


@pytest.mark.parametrize("reset", [False, True])
def test_client_that_leaves_is_forgotten(runs: Runs, reset: bool) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            await hot(opened)
            if reset:
                opened.client.writer.transport.abort()
            else:
                opened.client.writer.close()
            await until(lambda: opened.running.edge.statistics().connections == 0)
            assert drain_of(opened).connections == 0

    runs(scenario())


def test_moving_room_gets_its_inputs_held(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            room = opened.nodes[0].rooms[ROOM]
            room.hold = Hold(asyncio.Event())
            assert await say(opened, request) == [OK]
            assert len(room.hold.inputs.take(opened.board.clock())) == 1
            room.hold = None
            await rearm(opened, request)
            opened.nodes[0].give_up(room)
            assert await say(opened, request) == [OK]
            assert opened.drain is not None
            assert opened.drain.connections == 0

    runs(scenario())


def test_refused_address_is_looked_at_by_the_guard_again(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            for _ in range(30):
                opened.guard.failed("10.0.0.1")
            assert drain_of(opened).connections == 1
            for _ in range(30):
                opened.guard.failed(HOST)
            assert drain_of(opened).connections == 0
            assert await say(opened, *[request] * 20) == [OK] * 20
            assert drain_of(opened).connections == 0

    runs(scenario())


def test_armed_connection_lives_while_it_sends_and_no_longer(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN, edge_settings=tuned(idle_timeout_s=0.8)) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            for _ in range(6):
                await asyncio.sleep(0.3)
                assert await say(opened, request) == [OK]
            assert drain_of(opened).connections == 1
            assert await opened.client.ends() == b""
            assert drain_of(opened).connections == 0

    runs(scenario())


@asynccontextmanager
async def lane(opened: Door) -> AsyncIterator[tuple[Wire, Callable[[int], bytes]]]:
    """An armed WebSocket, and what makes its inputs; `HOT` of them were sent."""
    access, token = opened.access_token(), opened.stream_token()
    head = websocket_frames.head(PATH, token=access, lane=True)
    said = [message(token, seq=seq) for seq in range(HOT + 40)]

    def spoken(seq: int) -> bytes:
        return websocket_frames.binary(websocket_frames.call(3, b"", said[seq]))

    async with raw(opened.running) as client:
        client.send(websocket_frames.binary(websocket_frames.call(3, head, said[0])))
        for seq in range(1, HOT):
            await until(lambda: opened.board.counts.inputs == seq)  # noqa: B023
            client.send(spoken(seq))
        await until(lambda: opened.board.counts.inputs == HOT)
        await until(lambda: drain_of(opened).connections == 1)
        yield client, spoken


def test_lane_of_a_websocket_is_read_by_the_drain(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened, lane(opened) as (client, spoken):
            passed = opened.passed
            for seq in range(HOT, HOT + 20):
                client.send(spoken(seq))
            await until(lambda: opened.board.counts.inputs == HOT + 20)
            assert opened.passed == passed
            half = spoken(HOT + 20)
            client.send(half[:9])
            await until(lambda: drain_of(opened).connections == 0)
            client.send(half[9:] + spoken(HOT + 21))
            await until(lambda: opened.board.counts.inputs == HOT + 22)
            for seq in range(HOT + 22, HOT + 30):
                client.send(spoken(seq))
                await asyncio.sleep(0.002)
            await until(lambda: drain_of(opened).connections == 1)
            await until(lambda: opened.board.counts.inputs == HOT + 30)

    runs(scenario())


def test_lane_of_an_armed_websocket_keeps_its_limits(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN, burst=HOT + 2.0) as opened, lane(opened) as (client, spoken):
            client.send(b"".join(spoken(HOT) for _ in range(3)))
            assert reason_of(await end_of(client)) == "PLAYER_RATE"
            assert opened.board.counts.inputs == HOT + 2

    runs(scenario())


def test_lane_of_an_armed_websocket_ends_with_the_session(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened, lane(opened) as (client, spoken):
            opened.clock.at += 1000
            client.send(spoken(HOT))
            assert reason_of(await end_of(client)) == "TOKEN_EXPIRED"
            client.send(websocket_frames.close(1000))
            assert await closed_with(client) == (1000, "")
            await until(lambda: opened.running.edge.statistics().connections == 1)

    runs(scenario())


def test_draining_gateway_closes_an_armed_websocket(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(DRAIN) as opened, lane(opened) as (client, _):
            draining = asyncio.create_task(opened.running.edge.drain(timeout_s=1))
            assert await closed_with(client) == (1001, "DRAINING")
            await draining

    runs(scenario())


def test_many_connections_leave_nothing_behind(runs: Runs) -> None:
    async def round_of(opened: Door, count: int) -> None:
        access, token = opened.access_token(), opened.stream_token()
        request = post(access, grpcweb.frame(message(token)))

        async def one() -> None:
            async with wire(opened.running) as client:
                for _ in range(HOT + 3):
                    assert told(await client.call(request)) == OK
                await gate.wait()

        gate = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(one())
            await until(lambda: drain_of(opened).connections == count, within_s=30)
            gate.set()
        await until(lambda: opened.running.edge.statistics().connections == 1)
        assert drain_of(opened).connections == 0
        gc.collect()

    async def scenario() -> None:
        async with door(DRAIN, burst=1e9) as opened:
            left: list[tuple[int, int]] = []
            for _ in range(3):
                await round_of(opened, 520)
                used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                left.append((len(os.listdir("/proc/self/fd")), used))
            assert left[1][0] == left[2][0]
            assert left[2][1] - left[1][1] < 8 * 1024

    runs(scenario())
