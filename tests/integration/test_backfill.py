"""A room that wants players gets them from its queue before new matches are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration import fleet_stack, rooms_stack
from tests.integration.conftest import Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.games import GameInfo, RoomGame
from rallypoint.games.definition import define
from rallypoint.internal.v1 import allocation_pb2, snapshot_pb2
from rallypoint.kit import errors, rpc, subjects
from rallypoint.kit.names import QueueName, RoomId
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]
host = rooms_stack.host


class Filling(RoomGame):
    """Wants as many more players as its options say."""

    info = GameInfo(name="filling", max_players=4, tick_hz=20, late_join=True)

    def on_create(self) -> None:
        self.room.request_backfill(self.room.options.get("fill", 0))


FILLING = define(Filling)


@dataclass
class World:
    """What a test holds."""

    node: rooms_stack.RunningNode
    matchmaking: mm.Process
    queue: str

    async def wish(self, room_id: str) -> None:
        """Wait until the room has said that it wants somebody, and matchmaking heard it."""
        kv = self.node.bus.kv(subjects.OWNERS.name)
        key = subjects.fill(QueueName(self.queue), RoomId(room_id))
        async with asyncio.timeout(30):
            while await kv.get(key) is None:  # noqa: ASYNC110  # a broker's state
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)

    async def saved(self, room_id: str) -> snapshot_pb2.RoomSnapshot:
        """The room as it is stored."""
        kv = self.node.bus.kv(subjects.OWNERS.name)
        entry = await kv.get(subjects.snapshot(RoomId(room_id)))
        assert entry is not None
        return snapshot_pb2.RoomSnapshot.FromString(entry.value or b"")

    async def add(self, room_id: str, player: str) -> allocation_pb2.SeatGrant:
        """Have the room seat a player of its queue, as matchmaking does."""
        request = host.AddPlayersRequest(
            room_id=room_id,
            players=[allocation_pb2.SeatRequest(player_id=player)],
            backfill=True,
        )
        async with rpc.calling():
            return (await self.node.stub.AddPlayers(request)).seats[0]


@asynccontextmanager
async def world(brokers: Brokers, directory: Path, fresh: Fresh, fill: int) -> AsyncIterator[World]:
    """A queue of pairs whose rooms want `fill` more."""
    queue, set_name = fresh("queue"), fresh("set")
    document = mm.document(queue, game="filling", set=set_name, options={"fill": fill})
    async with (
        fleet_stack.fleet_stack(brokers, set_name) as fleet,
        rooms_stack.room_node(
            brokers,
            node_id=f"{set_name[-20:]}-1",
            set_name=set_name,
            games={"filling": FILLING},
        ) as node,
    ):
        await fleet_stack.until(fleet.nodes)
        matchmaking = mm.process(brokers, directory, fleet.address, queues=[document])
        try:
            await matchmaking.start()
            await matchmaking.wait_leading(queue)
            yield World(node, matchmaking, queue)
        finally:
            matchmaking.kill()


async def assigned(player: mm.Player) -> v1.Assignment:
    return (await player.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment


def test_room_is_filled_before_new_matches_are_made(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            world(brokers, tmp_path, fresh, fill=1) as here,
            mm.players(here.matchmaking, here.queue, "ann", "bob", "cyd", "dan", "eve") as players,
        ):
            ann, bob, *late = players
            for player in (ann, bob):
                await player.create()
            room_id = (await assigned(ann)).room_id
            await here.wish(room_id)
            for player in late:
                await player.create()
            places = [await assigned(player) for player in late]
            assert [place.room_id == room_id for place in places].count(True) == 1
            assert len({place.room_id for place in places}) == 2, "the others play together"
            (seat,) = [place for place in places if place.room_id == room_id]
            saved = await here.saved(room_id)
            assert len(saved.seats) == 3
            assert saved.engine.backfill == 0
            # The seat is what a ticket of a new match gets: its token opens it.
            async with rooms_stack.attached(here.node, FILLING) as gateway:
                player_id = seat.players[0].player_id
                joined = await gateway.join(room_id, player_id, seat.seat_token)
                assert joined.welcome.slot == 2

    runs(scenario())


def test_room_takes_as_many_as_it_asked_for_and_nobody_twice(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            world(brokers, tmp_path, fresh, fill=1) as here,
            mm.players(here.matchmaking, here.queue, "ann", "bob") as (ann, bob),
        ):
            for player in (ann, bob):
                await player.create()
            room_id = (await assigned(ann)).room_id
            first = await here.add(room_id, "cyd")
            again = await here.add(room_id, "cyd")
            assert first.slot == again.slot == 2
            with pytest.raises(errors.ResourceExhausted, match="BACKFILL_OVER"):
                await here.add(room_id, "dan")
            assert (await here.add(room_id, "ann")).slot < 2, "who has a seat keeps it"

    runs(scenario())


def test_room_that_ends_wants_nobody_more(runs: Runs, brokers: Brokers, fresh: Fresh) -> None:
    async def scenario() -> None:
        queue, room_id = fresh("queue"), RoomId(fresh("room"))
        async with rooms_stack.room_node(brokers, games={"filling": FILLING}) as node:
            revision, options = await node.own(room_id), {"fill": 1}
            await node.create(
                room_id, game="filling", queue=queue, options=options, own_revision=revision
            )
            kv, key = node.bus.kv(subjects.OWNERS.name), subjects.fill(QueueName(queue), room_id)
            async with asyncio.timeout(subjects.FILL_TTL_S / 2):  # before it would expire
                while await kv.get(key) is None:  # noqa: ASYNC110  # a broker's state
                    await asyncio.sleep(0.05)
                await node.stub.CloseRoom(host.CloseRoomRequest(room_id=room_id, reason="TEST"))
                while await kv.get(key) is not None:  # noqa: ASYNC110  # a broker's state
                    await asyncio.sleep(0.05)

    runs(scenario())
