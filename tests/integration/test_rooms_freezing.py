"""A node that may have been given up stands still, and goes on only with what is its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from tests.integration.conftest import Runs
from tests.integration.rooms_stack import Player, attached, host, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import skirmish
from rallypoint.games.definition import define
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.room_state.freezing import ALONE_S
from rallypoint.v1 import room_pb2

SKIRMISH = define(skirmish.Skirmish)
Fresh = Callable[[str], str]


async def stands_still(player: Player) -> bool:
    seen = len(player.frames)
    await asyncio.sleep(0.5)
    return len(player.frames) == seen


async def until_still(player: Player) -> None:
    async with asyncio.timeout(20):
        while not await stands_still(player):
            pass


async def until_moving(player: Player) -> None:
    seen = len(player.frames)
    await until(lambda: len(player.frames) > seen + 5, within_s=20)


def test_node_without_nats_and_without_fleet_stands_still(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(own_brokers, freeze_after_s=1.0) as node,
            attached(node, SKIRMISH) as gateway,
        ):
            room_id = fresh("room")
            seats = await node.create(room_id, own_revision=await node.own(room_id))
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            own_brokers.nats.kill()
            for _ in range(10):  # fleet's ping alone keeps it going
                await node.stub.Ping(host.PingRequest())
                await asyncio.sleep(0.3)
            await until_moving(player)
            await until_still(player)
            refused = await gateway.message(player, 1, b"", 1)
            assert refused.reason == "ROOM_MOVING", "the match may go on elsewhere"
            # A ping may have waited in a socket since before; one that names the freeze has not.
            stale = await node.stub.Ping(host.PingRequest())
            assert await stands_still(player)
            await node.stub.Ping(host.PingRequest(frozen=stale.frozen))
            await until_moving(player)
            assert (await gateway.message(player, 1, b"", 1)).reason != "ROOM_MOVING"
            await until_still(player)
            await asyncio.to_thread(own_brokers.nats.start)
            await until_moving(player)
            ticks = [frame.tick for frame in player.frames]
            assert all(after - before == 1 for before, after in itertools.pairwise(ticks))

    runs(play())


def test_node_that_missed_pings_answers_only_for_what_is_its_own(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id, kept_id = fresh("room"), fresh("room")
            seats = await node.create(room_id, own_revision=await node.own(room_id))
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            seats = await node.create(kept_id, own_revision=await node.own(kept_id))
            kept = await gateway.join(kept_id, "p0", seats[0].seat_token)
            await node.stub.Ping(host.PingRequest())
            await asyncio.sleep(ALONE_S + 0.2)
            await node.own(room_id, epoch=2)  # fleet gave the node up
            refused = await gateway.message(player, 1, b"", 1)
            assert refused.reason == "ROOM_MOVING"
            assert (await gateway.message(kept, 1, b"", 1)).reason != "ROOM_MOVING"

    runs(play())


def test_thawing_node_gives_up_what_went_on_elsewhere(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(own_brokers, freeze_after_s=1.0) as node,
            attached(node, SKIRMISH) as gateway,
        ):
            room_id, kept_id = fresh("room"), fresh("room")
            seats = await node.create(room_id, own_revision=await node.own(room_id))
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            seats = await node.create(kept_id, own_revision=await node.own(kept_id))
            kept = await gateway.join(kept_id, "p0", seats[0].seat_token)
            own_brokers.nats.kill()
            await until_still(player)
            await asyncio.to_thread(own_brokers.nats.start)
            bus = await Bus.connect(own_brokers.nats.url, name="fleet")
            record = events_pb2.OwnRecord(node_id="other", epoch=2).SerializeToString()
            await bus.kv("rooms").put(subjects.own(RoomId(room_id)), record)
            await until(lambda: player.control is not None, within_s=20)
            await bus.close()
            assert player.control is not None
            assert player.control.kind == room_pb2.CONTROL_KIND_MOVED
            await until_moving(kept)

    runs(play())
