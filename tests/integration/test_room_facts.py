"""Facts about rooms: stored in order, once, also past a broken connection, before a node leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.room_state.facts import BATCH, RoomFacts
from rallypoint.room_state.hosted import RoomIdentity

Fresh = Callable[[str], str]
PLAYERS = BATCH + 10


async def _joined(bus: Bus, room_id: str) -> list[str]:
    subject = subjects.room("joined", RoomId(room_id))
    facts = [fact async for fact in bus.stored(subjects.ROOMS.name, subject)]
    return [events_pb2.RoomFact.FromString(fact.data).player_id for fact in facts]


def test_what_is_queued_when_a_node_leaves_is_stored_in_order_and_once(
    runs: Runs, connected: Connect, own_brokers: Brokers, fresh: Fresh
) -> None:
    room = RoomIdentity(
        room_id=fresh("room"), epoch=1, game="g", queue="q", set="s", own_revision=0
    )
    players = [f"p{number}" for number in range(PLAYERS)]

    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            facts = RoomFacts(bus, "node")
            task = asyncio.create_task(facts.run(), name="facts")
            for player in players[: PLAYERS // 2]:
                facts.joined(room, player)
            await facts.flush(30.0)
            assert await _joined(bus, room.room_id) == players[: PLAYERS // 2]
            own_brokers.nats.kill()
            for player in players[PLAYERS // 2 :]:
                facts.joined(room, player)
            await asyncio.to_thread(own_brokers.nats.start)
            await facts.flush(30.0)
            assert await _joined(bus, room.room_id) == players
            task.cancel()

    runs(scenario())


def test_flush_gives_up_in_time(runs: Runs, connected: Connect, own_brokers: Brokers) -> None:
    room = RoomIdentity(room_id="lost", epoch=1, game="g", queue="q", set="s", own_revision=0)

    async def scenario() -> None:
        async with connected(own_brokers) as (bus, _):
            facts = RoomFacts(bus, "node")
            own_brokers.nats.kill()
            facts.created(room)
            task = asyncio.create_task(facts.run(), name="facts")
            await asyncio.wait_for(facts.flush(0.2), 10.0)
            task.cancel()
            await asyncio.to_thread(own_brokers.nats.start)

    runs(scenario())
