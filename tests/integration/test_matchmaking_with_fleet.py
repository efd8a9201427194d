"""Matchmaking, fleet and room-state as they are, when the node of a match dies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.integration.conftest import Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]


def node(brokers: Brokers, directory: Path, set_name: str, number: int) -> mm.Process:
    name = f"{set_name}-{number}"
    return mm.service(
        "room-state", brokers, directory, instance=f"node-{number}", node_id=name, set=set_name
    )


@contextlib.asynccontextmanager
async def chain(
    brokers: Brokers, directory: Path, queue: str, set_name: str
) -> AsyncIterator[mm.Process]:
    """Fleet and matchmaking; nodes are the test's."""
    fleet = mm.service("fleet", brokers, directory)
    document = mm.document(queue, set=set_name)
    matchmaking = mm.process(
        brokers,
        directory,
        f"127.0.0.1:{fleet.grpc_port}",
        queues=[document],
        allocate_patience_s="1",
    )
    try:
        await fleet.start()
        await matchmaking.start()
        await matchmaking.wait_leading(queue)
        yield matchmaking
    finally:
        matchmaking.kill()
        fleet.kill()


def test_a_match_gets_a_real_room(
    own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue, set_name = fresh("queue"), fresh("set")
        first = node(own_brokers, tmp_path, set_name, 1)
        try:
            await first.start()
            async with (
                chain(own_brokers, tmp_path, queue, set_name) as matchmaking,
                mm.players(matchmaking, queue, "ann", "bob") as (ann, bob),
            ):
                await ann.create()
                await bob.create()
                mine = (await ann.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment
                theirs = (await bob.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment
                assert mine.room_id == theirs.room_id
                assert mine.seat_token != theirs.seat_token
        finally:
            first.kill()

    runs(scenario())


def test_tickets_survive_the_death_of_the_node_that_makes_their_room(
    own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue, set_name = fresh("queue"), fresh("set")
        first = node(own_brokers, tmp_path, set_name, 1)
        second = node(own_brokers, tmp_path, set_name, 2)
        try:
            await first.start()
            async with (
                chain(own_brokers, tmp_path, queue, set_name) as matchmaking,
                mm.players(matchmaking, queue, "ann", "bob") as (ann, bob),
            ):
                with first.frozen():
                    begun = (await ann.create()).search_start_time
                    await bob.create()
                    await ann.wait_state(v1.TICKET_STATE_PROPOSED)
                    first.kill()
                await ann.wait_state(v1.TICKET_STATE_QUEUED)
                assert (await ann.get()).search_start_time == begun
                await second.start()
                mine = (await ann.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment
                assert {player.player_id for player in mine.players} == {"ann", "bob"}
        finally:
            first.kill()
            second.kill()

    runs(scenario())
