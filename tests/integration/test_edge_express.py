"""The express lane and the drain: what they take is answered as before, and they let nobody in.

Every scenario runs over edges without the lane, with it, and with the drain in C behind it; their
answers must be the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.integration.conftest import Runs
from tests.support.edge import HOST, SETTINGS, Response, Running, Service, Wire, wire

from rallypoint.gateway import attach, calls, fanout, limits, rooms, tokens, web_drain
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.domain import tokens as stream_tokens
from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_registry import Place, Registry
from rallypoint.gateway.web_express import ARM_AFTER
from rallypoint.gateway.web_server import Edge
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import metrics
from rallypoint.v1.room_pb2 import SendInputRequest

KEY = b"k" * 32
ROOM = "room-1"
PATH = rooms.SERVICE + "SendInput"


LONG, LANE, DRAIN = "long way", "lane", "drain"
WAYS = [LONG, LANE, *[DRAIN] * fanout.is_compiled()]
HOT = 7
"""Requests until a connection is hot: two go the long way, then the lane, then the drain."""


class Clock:
    """A clock that a test sets. It starts at the true time, which PyJWT reads by itself."""

    def __init__(self) -> None:
        self.at = time.time()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@dataclass
class Door:
    """An edge with SendInput behind a real guard."""

    client: Wire
    clock: Clock
    board: Board
    nodes: list[Node]
    access: tokens.AccessTokens
    running: Running
    guard: limits.Guard
    drain: web_drain.InputDrain | None = None
    passed: int = 0
    """Requests that the lane took."""

    def access_token(self, player_id: str = "player-1") -> str:
        return self.access.issue(player_id=player_id, display_name="", family="f")[0]

    def stream_token(self, player_id: str = "player-1", *, life_s: float = 3600.0) -> bytes:
        expires_s = int(self.clock.now() + life_s)
        claims = stream_tokens.StreamClaims(ROOM, 0, 1, player_id, expires_s)
        return stream_tokens.seal(KEY, claims)


@asynccontextmanager
async def door(
    way: str, *, burst: float = 1000.0, edge_settings: EdgeSettings = SETTINGS
) -> AsyncIterator[Door]:
    """Run it; the room's node is known but away, so inputs wait for it."""
    loop, clock = asyncio.get_running_loop(), Clock()
    fan_out = fanout.make("auto", fanout.FanOutLimits(), clock=loop.time)
    board = Board(fan_out, lambda stream: b"", loop.time)

    async def locate(room_id: str) -> Place | None:
        return Place("node-1", 1) if room_id == ROOM else None

    nodes: list[Node] = []

    def open_node(address: str) -> Node:
        nodes.append(Node(address, board, gateway_id="g", settings=attach.LinkSettings()))
        return nodes[-1]

    api = rooms.RoomApi(
        board,
        Registry(board, locate, open_node),
        limits.StreamLimit(4),
        clock=clock,
        cluster_key=KEY,
        settings=rooms.RoomSettings(),
    )
    access = tokens.AccessTokens([b"s" * 32], clock, life_s=900.0)
    rates = limits.LimitSettings(inputs_per_player_per_s=0.01, inputs_per_player_burst=burst)
    guard = limits.Guard(access, rates, trusted=(), clock=loop.time)

    def again(session: tokens.Session, method: calls.UnaryMethod, peer: str, now: float) -> bool:
        passes = guard.again(session, method, peer, now)
        opened.passed += passes
        return passes

    drain = input_drain(guard, api, clock) if way == DRAIN else None
    async with asyncio.TaskGroup() as tasks:
        edge = Edge(
            calls.Methods(api.methods()),
            settings=edge_settings,
            fan_out=fan_out,
            tasks=tasks,
            guard=guard,
            again=None if way == LONG else again,
            drain=drain,
        )
        running = Running(edge, await edge.listen(HOST, 0), Service(fan_out), fan_out)
        try:
            async with wire(running) as client:
                opened = Door(client, clock, board, nodes, access, running, guard, drain)
                yield opened
        finally:
            await edge.drain(timeout_s=1)


def input_drain(guard: limits.Guard, api: rooms.RoomApi, clock: Clock) -> web_drain.InputDrain:
    from rallypoint.gateway import _edge

    loop = asyncio.get_running_loop()
    return web_drain.InputDrain(
        _edge.Drain(), guard, api.plain, loop=loop, now_s=clock.now, lead_s=0.0
    )


def post(access: str, data: bytes) -> bytes:
    """One call, framed already."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: edge.test\r\ncontent-type: application/grpc-web+proto\r\n"
        f"authorization: Bearer {access}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def message(token: bytes, *inputs: bytes, seq: int = 7) -> bytes:
    """A serialized request."""
    return SendInputRequest(
        stream_token=token, ack_tick=5, first_seq=seq, inputs=inputs or (b"abcdef",)
    ).SerializeToString()


def told(response: Response) -> tuple[int, int, str]:
    """HTTP status, code and reason."""
    reason = response.error.reason if response.code else ""
    return response.http_status, int(response.code), reason


Script = Callable[[Door], Awaitable[list[tuple[int, int, str]]]]


async def hot(opened: Door) -> tuple[str, bytes]:
    """Send until the connection is hot; the tokens that were used."""
    access, token = opened.access_token(), opened.stream_token()
    for seq in range(HOT):
        response = await opened.client.call(
            post(access, grpcweb.frame(message(token, seq=seq + 1)))
        )
        assert told(response) == (200, 0, "")
    assert opened.board.counts.inputs == HOT
    if opened.drain is not None:
        assert opened.passed == ARM_AFTER
        assert opened.drain.connections == 1
        assert opened.drain.inputs == HOT - ARM_AFTER - 2
    return access, token


async def say(opened: Door, *requests: bytes) -> list[tuple[int, int, str]]:
    """Send requests one after the other; what each is told."""
    return [told(await opened.client.call(request)) for request in requests]


async def expired(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    opened.clock.at += 900 + 4
    still = await say(opened, post(access, grpcweb.frame(message(token))))
    opened.clock.at += 2
    return still + await say(opened, *[post(access, grpcweb.frame(message(token)))] * 2)


async def stream_token_expired(opened: Door) -> list[tuple[int, int, str]]:
    access = opened.access_token()
    request = post(access, grpcweb.frame(message(opened.stream_token(life_s=60))))
    living = await say(opened, *[request] * 3)
    opened.clock.at += 61
    return living + await say(opened, request)


async def other_player(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    theirs = opened.access_token("player-2")
    assert len(theirs) == len(access)
    return await say(
        opened,
        post(theirs, grpcweb.frame(message(token))),
        post(access, grpcweb.frame(message(opened.stream_token("player-2")))),
        post(access, grpcweb.frame(message(token))),
    )


async def other_tokens(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    forged = token[:-1] + bytes([token[-1] ^ 1])
    broken = access[:-8] + ("AAAAAAAA" if not access.endswith("AAAAAAAA") else "BBBBBBBB")
    return await say(
        opened,
        post(access, grpcweb.frame(message(forged))),
        post(broken, grpcweb.frame(message(token))),
        post(access, grpcweb.frame(message(token))),
    )


async def bad_frames(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    plain = message(token)
    size = len(plain)
    frames = [
        b"\0" + (size + 1).to_bytes(4, "big") + plain,
        b"\0" + (size - 1).to_bytes(4, "big") + plain,
        b"\1" + size.to_bytes(4, "big") + plain,
        b"\2" + size.to_bytes(4, "big") + plain,
        grpcweb.frame(b"\xff" * size),
        grpcweb.frame(plain[:-8] + b"\x7a\x06abcdef"),
        grpcweb.frame(plain),
    ]
    return await say(opened, *[post(access, frame) for frame in frames])


async def bad_inputs(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    many, long = message(token, *[b"x"] * 9), message(token, b"x" * 65)
    most, longest = message(token, *[b"x"] * 8), message(token, b"x" * 64)
    wanted = [many, long, most, most, most, longest, many, long]
    return await say(opened, *[post(access, grpcweb.frame(each)) for each in wanted])


async def oversized(opened: Door) -> list[tuple[int, int, str]]:
    access, _ = await hot(opened)
    return await say(opened, post(access, grpcweb.frame(b"x" * (calls.INPUT_MAX_BYTES + 1))))


async def pieces(opened: Door) -> list[tuple[int, int, str]]:
    access, token = await hot(opened)
    request = post(access, grpcweb.frame(message(token)))
    found = []
    for cut in (1, 40, len(request) - 3):
        opened.client.send(request[:cut])
        await asyncio.sleep(0.01)
        found += await say(opened, request[cut:])
    opened.client.send(request * 3)
    found += [told(await opened.client.response()) for _ in range(3)]
    # The first half of a request, then something as long as a whole one: no new request.
    opened.client.send(request[:-5])
    await asyncio.sleep(0.01)
    opened.client.send(request[-5:] + request)
    return found + [told(await opened.client.response()) for _ in range(2)]


SCRIPTS: list[Script] = [
    expired,
    stream_token_expired,
    other_player,
    other_tokens,
    bad_frames,
    bad_inputs,
    oversized,
    pieces,
]


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.__name__))
def test_answers_are_those_of_the_long_way(runs: Runs, script: Script, way: str) -> None:
    async def scenario() -> None:
        async with door(LONG) as long_way, door(way) as express:
            wanted = await script(long_way)
            assert await script(express) == wanted
            assert express.board.counts.inputs == long_way.board.counts.inputs
            assert express.passed > 0

    runs(scenario())


@pytest.mark.parametrize("way", WAYS)
def test_session_is_refused_once_its_time_is_over(runs: Runs, way: str) -> None:
    async def scenario() -> None:
        async with door(way) as opened:
            assert await expired(opened) == [(200, 0, ""), *[(200, 16, "TOKEN_EXPIRED")] * 2]
            assert opened.board.counts.inputs == HOT + 1

    runs(scenario())


@pytest.mark.parametrize("way", WAYS)
def test_bucket_holds_as_many_calls_on_every_way(runs: Runs, way: str) -> None:
    async def scenario() -> None:
        async with door(way, burst=HOT + 6.0) as opened:
            access, token = await hot(opened)
            request = post(access, grpcweb.frame(message(token)))
            answers = await say(opened, *[request] * 8)
            assert answers == [*[(200, 0, "")] * 6, *[(200, 8, "PLAYER_RATE")] * 2]
            assert opened.board.counts.inputs == HOT + 6

    runs(scenario())


@pytest.mark.parametrize("way", WAYS)
def test_calls_are_counted_on_every_way(runs: Runs, way: str) -> None:
    async def scenario() -> None:
        counter = metrics.GATEWAY_CALLS.labels(PATH, "OK")
        before = counter._value.get()
        async with door(way) as opened:
            await hot(opened)
            assert opened.passed == {LONG: 0, LANE: HOT - 2, DRAIN: ARM_AFTER}[way]
        assert counter._value.get() == before + HOT

    runs(scenario())


@pytest.mark.parametrize("way", WAYS)
def test_draining_gateway_closes_a_hot_connection(runs: Runs, way: str) -> None:
    async def scenario() -> None:
        async with door(way) as opened:
            await hot(opened)
            draining = asyncio.create_task(opened.running.edge.drain(timeout_s=1))
            assert await opened.client.ends() == b""
            await draining

    runs(scenario())
