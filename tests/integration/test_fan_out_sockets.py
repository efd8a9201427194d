"""The fan-out over real sockets: order, slow readers, the vanished; no frame is lost unsaid."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.integration.conftest import Runs
from tests.support.backends import backends

from rallypoint.client import websocket_frames
from rallypoint.gateway import fanout
from rallypoint.gateway.domain import grpcweb, websocket_calls
from rallypoint.gateway.domain.grpcweb import Framing
from rallypoint.gateway.fanout import Problem
from rallypoint.internal.v1 import room_host_pb2 as host

SIZE = 196
FRAMINGS = (grpcweb.web, websocket_calls.framing(1), grpcweb.web, websocket_calls.framing(200))
"""Of the clients in turn: streams of their own, and streams within WebSockets."""
both = pytest.mark.parametrize("backend", backends())


class Server(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, accepted: asyncio.Queue[None]) -> None:
        self.lost = False
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=1 << 20)
        self._accepted.put_nowait(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@dataclass
class Player:
    """One client: what it read, what it was refused."""

    slot: int
    server: Server
    client: socket.socket
    framing: Framing
    data: bytearray = field(default_factory=bytearray)
    missed: set[int] = field(default_factory=set)

    def read(self) -> int:
        """Take what is there."""
        before = len(self.data)
        try:
            while part := self.client.recv(1 << 16):
                self.data += part
        except BlockingIOError:
            pass
        return len(self.data) - before

    def numbers(self) -> list[int]:
        """The frames read, by their numbers."""
        return list(_numbers(bytes(self.data), self.framing))


def message(number: int) -> bytes:
    return struct.pack(">I", number) * (SIZE // 4)


def missed(problems: list[tuple[int, Problem]]) -> list[tuple[int, Problem]]:
    """Those of messages that were not written."""
    return [(slot, problem) for slot, problem in problems if problem is not Problem.FILLING]


def _numbers(data: bytes, framing: Framing) -> Iterator[int]:
    size = len(framing(message(0)))
    assert len(data) % size == 0, "a torn frame"
    for at in range(0, len(data), size):
        framed = data[at : at + size]
        end = size - 2 if framing is grpcweb.web else size
        number = struct.unpack(">I", framed[end - 4 : end])[0]
        assert framed == framing(message(number)), "bytes out of order"
        yield number


@asynccontextmanager
async def players(
    backend: str, count: int, *, send_buffer: int = 0
) -> AsyncIterator[tuple[fanout.FanOut, list[Player]]]:
    loop = asyncio.get_running_loop()
    fan_out = fanout.make(backend, fanout.FanOutLimits(16 * 1024, 1e9), clock=loop.time)
    assert fan_out.name == backend
    opened: list[Player] = []
    servers: list[Server] = []

    accepted: asyncio.Queue[None] = asyncio.Queue()

    def accept() -> Server:
        servers.append(Server(accepted))
        return servers[-1]

    listening = await loop.create_server(accept, "127.0.0.1", 0, backlog=1024)
    port = listening.sockets[0].getsockname()[1]
    try:
        for number in range(count):
            client = socket.socket()
            if send_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, send_buffer)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            async with asyncio.timeout(5):
                await accepted.get()
            server = servers[number]
            if send_buffer:
                end = server.transport.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            framing = FRAMINGS[number % len(FRAMINGS)]
            slot = fan_out.add(server.transport, framing)
            opened.append(Player(slot, server, client, framing))
        yield fan_out, opened
    finally:
        for player in opened:
            player.client.close()
            player.server.transport.abort()
        listening.close()
        await asyncio.sleep(0.01)


@both
def test_every_frame_arrives_or_is_said_to_be_missed(runs: Runs, backend: str) -> None:
    """Twenty clients, 3,000 frames, one reads slowly and in bursts, one vanishes on the way."""

    async def scenario() -> None:
        async with players(backend, 20, send_buffer=8 * 1024) as (fan_out, everybody):
            slow, gone = everybody[3], everybody[7]
            slots = [player.slot for player in everybody]
            by_slot = {player.slot: player for player in everybody}
            for number in range(3000):
                if number == 1000:
                    gone.client.close()
                body = message(number)
                for slot, problem in missed(fan_out.push(slots, [body] * len(slots))):
                    by_slot[slot].missed.add(number)
                    assert by_slot[slot] is gone or problem is Problem.BEHIND
                if number % 20 == 0:
                    await asyncio.sleep(0)
                for player in everybody:
                    if player is not gone and (player is not slow or number % 400 == 399):
                        player.read()
            await _settle([player for player in everybody if player is not gone])
            for player in everybody:
                if player is not gone:
                    expected = [n for n in range(3000) if n not in player.missed]
                    assert player.numbers() == expected
            assert slow.missed
            assert gone.missed
            assert gone.server.lost

    runs(scenario())


async def _settle(reading: list[Player]) -> None:
    """Read until nothing comes any more."""
    quiet = 0
    while quiet < 5:
        await asyncio.sleep(0.01)
        quiet = 0 if sum(player.read() for player in reading) else quiet + 1


@both
def test_what_was_written_before_comes_before(runs: Runs, backend: str) -> None:
    async def scenario() -> None:
        async with players(backend, 1) as (fan_out, (player,)):
            for number in range(50):
                player.server.transport.write(grpcweb.web(message(2 * number)))
                fan_out.touch(player.slot)
                assert fan_out.push([player.slot], [message(2 * number + 1)]) == []
                if number % 3 == 0:
                    await asyncio.sleep(0)
            await _settle([player])
            assert player.numbers() == list(range(100))

    runs(scenario())


@both
def test_client_that_never_reads_is_cut_after_its_time(runs: Runs, backend: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with players(backend, 2, send_buffer=4 * 1024) as (_, (first, second)):
            limits = fanout.FanOutLimits(behind_bytes=8 * 1024, cut_after_s=0.2)
            fan_out = fanout.make(backend, limits, clock=loop.time)
            slots = [fan_out.add(p.server.transport, grpcweb.web) for p in (first, second)]
            problems: list[Problem] = []
            async with asyncio.timeout(30):
                while Problem.CUT not in problems:
                    found = missed(fan_out.push(slots, [message(1)] * 2))
                    assert all(slot == slots[0] for slot, _ in found)
                    problems += [problem for _, problem in found]
                    second.read()
                    await asyncio.sleep(0.001)
            assert set(problems[:-1]) == {Problem.BEHIND}
            await asyncio.sleep(0.01)
            assert first.server.lost
            assert fan_out.push(slots[:1], [b"x"]) == [(slots[0], Problem.GONE)]
            assert fan_out.statistics().cut == 1

    runs(scenario())


@both
def test_thousand_sockets_leave_nothing_behind(runs: Runs, backend: str) -> None:
    async def scenario() -> None:
        left: list[int] = []
        for _ in range(3):
            async with players(backend, 1100) as (fan_out, everybody):
                slots = [player.slot for player in everybody]
                for number in range(3):
                    assert fan_out.push(slots, [message(number)] * len(slots)) == []
                    await asyncio.sleep(0)
                await _settle(everybody)
                assert all(player.numbers() == [0, 1, 2] for player in everybody)
                for player in everybody:
                    fan_out.remove(player.slot)
                assert fan_out.statistics().clients == 0
            await asyncio.sleep(0.05)
            gc.collect()
            left.append(len(os.listdir("/proc/self/fd")))
        assert left[0] == left[1] == left[2]

    runs(scenario())


@both
def test_streams_of_one_websocket_never_tear_each_other(runs: Runs, backend: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with players(backend, 1, send_buffer=4 * 1024) as (_, (player,)):
            fan_out = fanout.make(backend, fanout.FanOutLimits(8 * 1024, 1e9), clock=loop.time)
            calls = [websocket_calls.framing(call) for call in (1, 2)]
            slots = [fan_out.add(player.server.transport, framing) for framing in calls]
            unseen: dict[int, set[int]] = {slot: set() for slot in slots}
            for number in range(2000):
                bodies = [message(number) * (1 + number % 5)] * 2
                for slot, _ in missed(fan_out.push(slots, bodies)):
                    unseen[slot].add(number)
                if number % 7 == 0:
                    await asyncio.sleep(0)
                if number % 50 < 25:
                    player.read()
            await _settle([player])
            frames = list(websocket_frames.Frames().feed(bytes(player.data)))
            for slot, call in zip(slots, (1, 2), strict=True):
                got = [struct.unpack(">I", data[-4:])[0] for data in frames if data[0] == call]
                assert got == [n for n in range(2000) if n not in unseen[slot]]
            assert unseen[slots[0]]
            fan_out.remove(slots[0])
            fan_out.remove(slots[1])
            again = fan_out.add(player.server.transport, calls[0])
            assert fan_out.push([again], [message(1)]) == []

    runs(scenario())


@both
def test_error_after_a_part_was_sent_ends_the_connection(runs: Runs, backend: str) -> None:
    async def scenario() -> None:
        async with players(backend, 1, send_buffer=8 * 1024) as (fan_out, (player,)):
            routes = fan_out.routes()
            routes[1] = player.slot
            fan_out.push([player.slot], [message(1)])
            large = message(1) * 1000
            frame = host.RoomFrame(
                parts=[large],
                routes=[host.Route(clients=[1], parts=[0]), host.Route(clients=[1], parts=[7])],
            )
            flush = routes.read(host.AttachResponse(frames=[frame]).SerializeToString())
            assert flush.next_room({}, 0.0, 256) is not None
            with pytest.raises((ValueError, IndexError)):
                flush.send(256)
            fan_out.push([player.slot], [message(2)])
            await _settle([player])
            if not player.server.lost:  # nothing of it was sent
                assert player.numbers() == [1, 2]

    runs(scenario())
