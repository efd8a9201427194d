"""A room node that lets a gateway go on over a trunk: what passes, what ends it, what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from tests.integration.conftest import Runs
from tests.integration.rooms_stack import AttachPeer, attached, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import skirmish, tictactoe
from rallypoint.games.definition import define
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import metrics
from rallypoint.kit.trunk import FULL_BYTES, Trunk, connect
from rallypoint.kit.trunk_listener import TrunkListener
from rallypoint.room_state.gateway_link import GatewayLink

SKIRMISH = define(skirmish.Skirmish)
TICTACTOE = define(tictactoe.TicTacToe)
Fresh = Callable[[str], str]


def test_play_goes_over_to_the_trunk_without_a_gap(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            early = await gateway.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: len(early.frames) >= 3)
            await gateway.inputs(early, 1, {"dx": 100})
            await gateway.go_over()
            await gateway.inputs(early, 2, {"dx": 100})
            late = await gateway.join(room_id, "p1", seats[1].seat_token)
            await until(lambda: bool(late.frames) and early.value("seats", "ack")[0] == 2)
            # `Player.frame` saw to it that each delta follows on the frame before it.
            assert [frame.base_tick for frame in early.frames].count(0) == 1
            reply = await gateway.message(late, 77, b"", 1)
            assert reply.code != 0
            # Each flush says how late it is, however busy this machine.
            assert all(0 < late_us < 10_000_000 for late_us in gateway.late_us)

    runs(play())


def test_last_words_come_before_the_end(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            trunk = await gateway.go_over()
            node.runtime.stopping.set()
            await trunk.wait_lost()
            assert trunk.error is None
            assert player.control is not None
            assert player.control.reason == "NODE_DRAINING"

    runs(play())


Breaks = Callable[[AttachPeer, Trunk], Awaitable[None]]


async def _cut(gateway: AttachPeer, trunk: Trunk) -> None:
    trunk.abort()


async def _babble(gateway: AttachPeer, trunk: Trunk) -> None:
    trunk.send(b"\x0a\x7f")


async def _finish(gateway: AttachPeer, trunk: Trunk) -> None:
    trunk.finish()


async def _break_grpc(gateway: AttachPeer, trunk: Trunk) -> None:
    gateway.break_call()


@pytest.mark.parametrize("breaks", [_cut, _babble, _finish, _break_grpc])
def test_either_broken_ends_the_attach_and_keeps_the_seats(
    brokers: Brokers, runs: Runs, fresh: Fresh, breaks: Breaks
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as other:
            room_id = fresh("room")
            seats = await node.create(room_id)
            stays = await other.join(room_id, "p1", seats[1].seat_token)
            async with attached(node, SKIRMISH) as gateway:
                player = await gateway.join(room_id, "p0", seats[0].seat_token)
                trunk = await gateway.go_over()
                await until(lambda: len(player.frames) >= 2)
                await breaks(gateway, trunk)
                await trunk.wait_lost()
                await gateway.wait_ended()
            await until(lambda: stays.value("seats", "state").tolist()[:2] == [3, 2])
            async with attached(node, SKIRMISH) as gateway:
                again = await gateway.join(room_id, "p0", seats[0].seat_token)
                await until(lambda: bool(again.frames))
                await until(lambda: stays.value("seats", "state").tolist()[:2] == [2, 2])

    runs(play())


def test_a_trunk_nobody_opened_cannot_begin(brokers: Brokers, runs: Runs) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            await gateway.send(trunk_begins=True)
            assert await gateway.wait_ended() is grpc.StatusCode.OK

    runs(play())


def test_an_offer_dies_with_its_attach(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as other:
            room_id = fresh("room")
            seats = await node.create(room_id)
            stays = await other.join(room_id, "p1", seats[1].seat_token)
            async with attached(node, SKIRMISH) as gateway:
                await gateway.join(room_id, "p0", seats[0].seat_token)
                offer = await gateway.offered()
            # The node takes the offer back before it tells anybody that the seat is away.
            await until(lambda: stays.value("seats", "state").tolist()[:2] == [3, 2])
            refused = metrics.TRUNKS_REFUSED.labels("token")._value.get
            before = refused()
            trunk = await connect("127.0.0.1", offer.port, offer.token)
            await trunk.wait_lost()
            assert refused() == before + 1

    runs(play())


def test_a_node_may_do_without(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with (
            room_node(brokers, trunk_port=-1) as node,
            attached(node, SKIRMISH) as gateway,
        ):
            room_id = fresh("room")
            seats = await node.create(room_id)
            await gateway.send(trunk_wanted=True)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: len(player.frames) >= 2)
            assert gateway.offer is None

    runs(play())


# --- what a gateway that does not read may cost ---

LIMIT = 512 * 1024
FRAMES = bytes(32 * 1024)


@asynccontextmanager
async def linked(*, begun: bool = True) -> AsyncIterator[tuple[GatewayLink, Trunk]]:
    """A link that has a trunk, and the gateway's end of it."""
    listener = TrunkListener()
    port = await listener.listen("127.0.0.1", 0)
    link = GatewayLink("g", limit_bytes=LIMIT)
    link.offer_trunk(listener)
    said = await anext(link.responses())
    offer = host.AttachResponse.FromString(said).trunk
    far = await connect("127.0.0.1", port, offer.token)
    assert host.AttachResponse.FromString(await anext(link.responses())).trunk_begins
    if begun:
        link.read_trunk(lambda data: None)
    try:
        yield link, far
    finally:
        listener.close()
        link.abort()
        far.abort()
        await far.wait_lost()
        await link.wait_read(1.0)


def test_a_gateway_that_does_not_read_is_refused_frames_and_hears_every_word(runs: Runs) -> None:
    async def scenario() -> None:
        async with linked() as (link, far):
            taken = 0
            async with asyncio.timeout(20):
                while link.frames(FRAMES):
                    taken += 1
                    await asyncio.sleep(0)
            assert taken * len(FRAMES) > LIMIT
            for number in range(1, 100):
                link.say(host.AttachResponse(kicks=[host.ClientKick(client=number)]))
            assert not link.frames(FRAMES)
            heard = bytearray()
            far.start(received=heard.extend, writable=lambda: None)
            words = sum(
                host.AttachResponse(kicks=[host.ClientKick(client=number)]).ByteSize()
                for number in range(1, 100)
            )
            await until(lambda: len(heard) == taken * len(FRAMES) + words)
            assert link.frames(FRAMES)

    runs(scenario())


def test_what_was_held_before_the_trunk_was_read_is_not_passed(runs: Runs) -> None:
    async def scenario() -> None:
        async with linked(begun=False) as (link, far):
            taken = 0
            while link.frames(FRAMES):
                taken += 1
                await asyncio.sleep(0)
            heard = bytearray()
            far.start(received=heard.extend, writable=lambda: None)
            await until(lambda: len(heard) == taken * len(FRAMES) - LIMIT)
            word = host.AttachResponse(kicks=[host.ClientKick(client=7)])
            link.say(word)
            link.read_trunk(lambda data: None)
            await until(lambda: len(heard) == taken * len(FRAMES) + word.ByteSize())
            assert heard.endswith(word.SerializeToString())

    runs(scenario())


def test_a_link_that_closes_sends_what_it_held(runs: Runs) -> None:
    async def scenario() -> None:
        async with linked() as (link, far):
            taken = 0
            while link.frames(FRAMES):
                taken += 1
                await asyncio.sleep(0)
            link.close()
            heard = bytearray()
            far.start(received=heard.extend, writable=lambda: None)
            await far.wait_lost()
            assert far.error is None
            assert len(heard) == taken * len(FRAMES)
            assert taken * len(FRAMES) > FULL_BYTES

    runs(scenario())
