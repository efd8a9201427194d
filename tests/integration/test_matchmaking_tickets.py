"""Tickets through the real service: one process, real brokers, a fleet peer over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]


def kinds(events: list[v1.WatchTicketResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def test_two_tickets_become_a_match_with_seats(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, options={"time_limit_s": 5})
        async with (
            mm.started(brokers, tmp_path, document) as (process, peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            first = await ann.create()
            assert first.state == v1.TICKET_STATE_QUEUED
            begun = asyncio.Event()
            watched = asyncio.create_task(ann.watch(first.ticket_id, begun=begun))
            await asyncio.wait_for(begun.wait(), mm.WITHIN_S)
            second = await bob.create()
            events = await watched
            assert kinds(events)[0] == "queued"
            assert kinds(events)[-2:] == ["proposed", "assigned"]
            mine = events[-1].assigned
            theirs = (await bob.wait_state(v1.TICKET_STATE_ASSIGNED, second.ticket_id)).assignment
            assert mine.room_id == theirs.room_id
            assert len(mine.seat_token) == 16
            assert mine.seat_token != theirs.seat_token
            assert [(p.display_name, p.team) for p in mine.players] == [("Ann", 0), ("Bob", 1)]
            assert (await ann.get()).assignment == mine
            (room,) = peer.rooms.values()
            assert (room.set, room.game, room.queue) == ("local", "tictactoe", queue)
            assert room.options == b'{"time_limit_s":5}'

    runs(scenario())


def test_the_same_request_makes_one_ticket(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            tickets = await asyncio.gather(*(ann.create("same") for _ in range(20)))
            assert len({ticket.ticket_id for ticket in tickets}) == 1
            with pytest.raises(errors.AlreadyExists) as caught:
                await ann.create("other")
            assert caught.value.reason == "TICKET_EXISTS"
            assert caught.value.metadata["ticket_id"] == tickets[0].ticket_id
            listed = await ann.call("ListQueues", v1.ListQueuesRequest())
            assert [(q.queue, q.searching) for q in listed.queues] == [(queue, 1)]

    runs(scenario())


def test_a_cancelled_ticket_makes_room_for_a_new_one(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, _),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            first = await ann.create("r1")
            watched = asyncio.create_task(ann.watch(first.ticket_id))
            await asyncio.sleep(0.1)
            for _ in range(2):
                cancelled = await ann.cancel(first.ticket_id)
                assert cancelled.state == v1.TICKET_STATE_CANCELLED
            ended = (await watched)[-1]
            assert ended.ended.state == v1.TICKET_STATE_CANCELLED
            assert await ann.watch(first.ticket_id, after_seq=ended.seq) == []
            assert (await ann.watch(first.ticket_id, after_seq=99))[-1] == ended
            second = await ann.create("r2")
            assert second.ticket_id != first.ticket_id
            await bob.create()
            await ann.wait_state(v1.TICKET_STATE_ASSIGNED, second.ticket_id)
            with pytest.raises(errors.FailedPrecondition, match="TICKET_MATCHED"):
                await ann.cancel(second.ticket_id)

    runs(scenario())


def test_a_ticket_expires_and_is_forgotten(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, ticket_ttl_s=1)
        async with (
            mm.started(brokers, tmp_path, document, ticket_retention_s="1") as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            ticket = await ann.create()
            events = await ann.watch(ticket.ticket_id)
            assert events[-1].ended.state == v1.TICKET_STATE_EXPIRED

            async def forgotten() -> bool:
                try:
                    await ann.get()
                except errors.NotFound as error:
                    return error.reason == "TICKET_UNKNOWN"
                return False

            await mm.until(forgotten)

    runs(scenario())


def test_a_small_match_waits_and_then_starts(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, team_count=8, min_players=2, min_after_s=1)
        names = [f"player-{number}" for number in range(11)]
        async with (
            mm.started(brokers, tmp_path, document) as (process, peer),
            mm.players(process, queue, *names) as people,
        ):
            for one in people:
                await one.create()
            for one in people:
                await one.wait_state(v1.TICKET_STATE_ASSIGNED)
            assert sorted(len(room.players) for room in peer.rooms.values()) == [3, 8]

    runs(scenario())


def test_the_search_widens_visibly(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, tolerance=[[0, 100], [1, 300]], ticket_ttl_s=3)
        async with (
            mm.started(brokers, tmp_path, document) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            events = await ann.watch((await ann.create()).ticket_id)
            wider = next(event.expanded for event in events if event.HasField("expanded"))
            assert (wider.rating_range, wider.position, wider.searching) == (300, 1, 1)
            assert events[0].queued.rating_range < 300
            assert events[0].queued.needed == 2

    runs(scenario())


def test_strangers_and_unknown_names_are_refused(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, _),
            mm.players(process, queue, "ann", "eve", "") as (ann, eve, nobody),
        ):
            ticket = await ann.create()
            for stranger in (eve.get, eve.cancel, eve.watch):
                with pytest.raises(errors.NotFound, match="TICKET_UNKNOWN"):
                    await stranger(ticket.ticket_id)
            with pytest.raises(errors.Unauthenticated):
                await nobody.create()
            with pytest.raises(errors.InvalidArgument, match="NAME_INVALID"):
                await ann.get("not an id")
            ann.queue = "nowhere"
            with pytest.raises(errors.NotFound, match="QUEUE_UNKNOWN"):
                await ann.create()

    runs(scenario())
