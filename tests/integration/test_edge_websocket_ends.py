"""How WebSockets end: silence, slow readers, drains, clients that vanish."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import SERVICE, until, wrap
from tests.support.websocket import MASK, Watched, channel, closed_with, message, raw, read_frame

from rallypoint.client import websocket, websocket_frames
from rallypoint.gateway import fanout

pytestmark = pytest.mark.usefixtures("each_backend")


def test_silent_and_slow_connections_are_closed(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(idle_timeout_s=0.3, request_timeout_s=0.3)
        async with (
            edge.web(settings) as running,
            raw(running) as idle,
            raw(running) as slow,
            raw(running) as busy,
        ):
            busy.send(message(1, "Watch"))
            slow.send(message(1, "Echo")[:5])
            assert await closed_with(slow) == (1008, "REQUEST_TIMEOUT")
            assert await closed_with(idle) == (1001, "IDLE")
            assert running.service.open == 1

    runs(scenario())


def test_pings_do_not_prolong_a_message(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web(edge.tuned(request_timeout_s=0.3)) as running, raw(running) as client:
            whole = websocket_frames.frame(2, b"\x01", MASK)
            client.send(bytes([whole[0] & 0x7F]) + whole[1:])

            async def ping() -> None:
                while True:
                    client.send(websocket_frames.frame(9, b"", MASK))
                    await asyncio.sleep(0.05)

            pinging = asyncio.create_task(ping())
            assert await closed_with(client) == (1008, "REQUEST_TIMEOUT")
            pinging.cancel()

    runs(scenario())


def test_client_that_does_not_read_is_not_served_on(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, raw(running) as client:
            many = b"".join(message(20, "Echo", b"x" * 900) for _ in range(500))
            for _ in range(40):
                client.send(many)
            await until(lambda: running.edge.statistics().unsent_bytes > 64 * 1024, within_s=30)
            await asyncio.sleep(0.2)
            served = len(running.service.calls)
            assert running.edge.statistics().unsent_bytes < 1024 * 1024
            await asyncio.sleep(0.2)
            assert len(running.service.calls) == served < 20_000
            for _ in range(served + 2000):
                await read_frame(client)

    runs(scenario())


def test_stream_that_is_not_read_is_cut(runs: Runs) -> None:
    async def scenario() -> None:
        limits = fanout.FanOutLimits(behind_bytes=1000, cut_after_s=0.2)
        async with edge.web(limits=limits) as running, raw(running) as client:
            client.send(message(1, "Watch"))
            await until(lambda: running.service.slots)
            body = wrap(b"x" * 60_000)
            problems: list[fanout.Problem] = []
            while fanout.Problem.CUT not in problems:
                pushed = running.fan_out.push(running.service.slots, [body])
                problems += [problem for _, problem in pushed]
                await asyncio.sleep(0.01)
            assert fanout.Problem.BEHIND in problems
            await until(lambda: running.edge.statistics().connections == 0)

    runs(scenario())


def test_drain_says_farewell_and_lets_calls_finish(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            watched = Watched()
            await client.stream(SERVICE + "Watch", b"", listener=watched)
            slow = asyncio.create_task(client.unary(SERVICE + "Slow", wrap(b"0.2")))
            await until(lambda: running.service.open == 2)
            await running.edge.drain(timeout_s=5)
            assert BytesValue.FromString(await slow).value == b"0.2"
            assert watched.values == [b"farewell"]
            (end,) = watched.ends
            assert end is not None
            assert end.reason == "DRAINING"
            assert running.edge.statistics().connections == 0

    runs(scenario())


def test_vanished_client_frees_everything(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running:
            async with raw(running) as client:
                client.send(message(1, "Watch") + message(20, "Slow", b"5"))
                await until(lambda: running.service.open == 2)
                client.writer.transport.abort()
            await until(lambda: running.service.open == 0)
            assert running.fan_out.statistics().clients == 0
            assert running.edge.statistics().connections == 0

    runs(scenario())


def test_client_connects_again_after_an_idle_close(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(idle_timeout_s=0.2)
        async with edge.web(settings) as running, channel(running) as client:
            assert await client.unary(SERVICE + "Echo", wrap(b"a"))
            await until(lambda: running.edge.statistics().connections == 0)
            assert await client.unary(SERVICE + "Echo", wrap(b"b"))

    runs(scenario())


def test_stream_given_up_after_silence_takes_the_connection_along(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            stream = await client.stream(SERVICE + "Watch", b"", listener=Watched())
            await asyncio.sleep(websocket.SILENT_S + 0.1)
            stream.close()
            await until(lambda: running.edge.statistics().connections == 0)
            assert await client.unary(SERVICE + "Echo", wrap(b"a"))

    runs(scenario())
