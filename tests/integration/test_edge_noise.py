"""The web edge under noise: changed, cut and glued requests, clients that vanish at any moment."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import request, wire

CLIENTS = 150


def noisy(chance: random.Random) -> bytes:
    """Return a few requests, some of their bytes changed, lost or doubled."""
    kinds = [
        request(),
        request("Slow", edge.body(b"0.001")),
        request("Count", edge.body(b"5")),
        request("Watch"),
        request("Echo", b"aGVsbG8=", content_type="application/grpc-web-text"),
        b"GET / HTTP/1.1\r\nhost: e\r\n\r\n",
    ]
    data = bytearray(b"".join(chance.choices(kinds, k=chance.randint(1, 4))))
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 30)]
            case _:
                data[at:at] = data[at : at + chance.randint(1, 30)]
        if not data:
            return b"\0"
    return bytes(data)


async def play(running: edge.Running, chance: random.Random) -> None:
    """Send noise in pieces, read a little, and leave in one of three ways."""
    async with wire(running) as client:
        data = noisy(chance)
        cut = chance.randrange(len(data) + 1)
        client.send(data[:cut])
        await asyncio.sleep(chance.random() * 0.01)
        if not client.writer.is_closing():
            client.send(data[cut:])
        match chance.randrange(3):
            case 0:
                client.writer.transport.abort()
            case 1 if not client.writer.is_closing():
                client.writer.write_eof()
            case _:
                await asyncio.sleep(chance.random() * 0.02)


@pytest.mark.parametrize("seed", range(4))
def test_noise_leaves_nothing_behind(
    runs: Runs, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with edge.web() as running:
            for _ in range(CLIENTS // 15):
                async with asyncio.TaskGroup() as tasks:
                    for number in range(15):
                        tasks.create_task(play(running, chance), name=f"client {number}")
                message = edge.wrap(b"tick")
                slots = list(running.service.slots)
                running.fan_out.push(slots, [message] * len(slots))
            await edge.until(lambda: running.edge.statistics().connections == 0)
            assert running.service.open == 0
            assert running.fan_out.statistics().clients == 0
            async with wire(running) as client:
                assert (await client.call(request())).messages == [b"hello"]

    runs(scenario())
    # A number made unreadable is the handlers' own failure, and reported as such.
    problems = {record.message for record in caplog.records if record.levelname == "ERROR"}
    assert problems <= {"handler_failed"}
