"""What is promised when fleet, the leader or a broker fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Broker, Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import QueueName
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]


def test_no_room_sends_tickets_back_first_in_line(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue), allocate_patience_s="0.3") as (
                process,
                peer,
            ),
            mm.players(process, queue, "ann", "bob", "cid", "dan") as (ann, bob, cid, dan),
        ):
            peer.failures = 1_000_000
            first = await ann.create()
            watched = asyncio.create_task(ann.watch(first.ticket_id))
            await bob.create()

            async def tried() -> bool:
                return len(peer.asked) >= 1

            await mm.until(tried)
            await bob.wait_state(v1.TICKET_STATE_QUEUED)
            await cid.create()
            await dan.create()
            peer.failures = 0
            events = await watched
            reasons = [event.requeued.reason for event in events if event.HasField("requeued")]
            assert reasons
            assert set(reasons) == {"ROOM_UNAVAILABLE"}
            mine = events[-1].assigned
            assert {player.player_id for player in mine.players} == {"ann", "bob"}
            again = await ann.get(first.ticket_id)
            assert again.search_start_time == first.search_start_time
            await dan.wait_state(v1.TICKET_STATE_ASSIGNED)

    runs(scenario())


def test_a_lost_reply_is_asked_again_with_the_same_request(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            peer.lose_replies = 2
            await ann.create()
            await bob.create()
            ticket = await ann.wait_state(v1.TICKET_STATE_ASSIGNED)
            assert dict(peer.asked) == {ticket.assignment.room_id: 3}
            assert list(peer.rooms) == [ticket.assignment.room_id]

    runs(scenario())


def test_a_killed_leader_resumes_the_match_it_left(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            peer.hold.clear()
            await ann.create()
            await bob.create()
            await bob.wait_state(v1.TICKET_STATE_PROPOSED)
            process.kill()
            peer.hold.set()
            await process.start()
            ticket = await ann.wait_state(v1.TICKET_STATE_ASSIGNED)
            other = await bob.wait_state(v1.TICKET_STATE_ASSIGNED)
            assert list(peer.rooms) == [ticket.assignment.room_id]
            assert other.assignment.room_id == ticket.assignment.room_id

    runs(scenario())


async def play(player: mm.Player, rooms: Counter[tuple[str, str]]) -> None:
    """Insist on a ticket until it is assigned, as a client does; note the room."""
    while True:
        try:
            ticket = await player.create("only")
            ticket = await player.wait_state(v1.TICKET_STATE_ASSIGNED, ticket.ticket_id)
        except (errors.ServerFault, errors.RallypointError):
            await asyncio.sleep(0.05)
        else:
            rooms[ticket.assignment.room_id, player.name] += 1
            return


def check(peer: mm.FleetPeer, rooms: Counter[tuple[str, str]], names: list[str]) -> None:
    """Everybody plays once, with the people of their room."""
    assert Counter(name for _, name in rooms) == Counter(names)
    together = Counter(room for room, _ in rooms)
    assert set(together.values()) == {2}
    for room in together:
        assert {p.player_id for p in peer.rooms[room].players} == {
            name for where, name in rooms if where == room
        }


async def facts_of(bus: Bus, queue: str, tickets: int) -> list[tuple[str, int, int]]:
    """(ticket, seq, state) of a queue's facts, up to the last ticket's assignment."""
    found: list[tuple[str, int, int]] = []
    stream = bus.ordered(subjects.TICKETS.name, subjects.tickets_of(QueueName(queue)))
    async with asyncio.timeout(mm.WITHIN_S):
        async for fact in stream:
            ticket = events_pb2.TicketFact.FromString(fact.data)
            found.append((ticket.ticket_id, ticket.seq, ticket.state))
            ended = [state for _, _, state in found if state == v1.TICKET_STATE_ASSIGNED]
            if len(ended) == tickets and not fact.pending:
                break
    return found


def test_kills_at_any_moment_leave_every_ticket_assigned_once(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue, rooms = fresh("queue"), Counter[tuple[str, str]]()
        names = [f"player-{number}" for number in range(60)]
        async with (
            connected(brokers) as (bus, _),
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, peer),
            mm.players(process, queue, *names) as people,
        ):
            async with asyncio.TaskGroup() as group:
                for number, one in enumerate(people):
                    group.create_task(play(one, rooms), name=one.name)
                    if number % 15 == 7:
                        await asyncio.sleep(0.004 * number)
                        process.kill()
                        await process.start()
            check(peer, rooms, names)
            facts = await facts_of(bus, queue, len(names))
            assert len({(ticket, seq) for ticket, seq, _ in facts}) == len(facts)
            assert Counter(state for _, _, state in facts)[v1.TICKET_STATE_ASSIGNED] == len(names)

    runs(scenario())


@pytest.mark.parametrize("which", ["nats", "redis"])
def test_a_broker_restart_under_load_loses_nothing_acknowledged(
    which: str, own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue, rooms = fresh("queue"), Counter[tuple[str, str]]()
        names = [f"player-{number}" for number in range(39)]
        broker: Broker = getattr(own_brokers, which)
        async with (
            mm.started(own_brokers, tmp_path, mm.document(queue)) as (process, peer),
            mm.players(process, queue, *names, "early") as people,
        ):
            acknowledged = await people[-1].create()
            if which == "redis":
                await asyncio.sleep(1.2)  # the promise is for writes older than a sync, 1 s
            async with asyncio.TaskGroup() as group:
                for number, one in enumerate(people[:-1]):
                    group.create_task(play(one, rooms), name=one.name)
                    if number == 20:
                        await asyncio.to_thread(broker.restart)
            early = await people[-1].get(acknowledged.ticket_id)
            names_of_rooms = {p.player_id for room in peer.rooms.values() for p in room.players}
            assert names_of_rooms <= {*names, "early"}
            assert {name for _, name in rooms} == set(names)
            assert early.state == v1.TICKET_STATE_ASSIGNED
            assert process.child is not None
            assert process.child.poll() is None

    runs(scenario())


def test_tickets_lost_with_redis_are_made_anew_by_the_same_request(
    own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(own_brokers, tmp_path, mm.document(queue)) as (process, _),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            first = await ann.create()
            watched = asyncio.create_task(ann.watch(first.ticket_id))
            await asyncio.sleep(0.2)
            with socket.create_connection(("127.0.0.1", own_brokers.redis.port)) as redis:
                redis.sendall(b"FLUSHALL\r\n")
                assert redis.recv(16) == b"+OK\r\n"
            with pytest.raises(errors.NotFound, match="TICKET_UNKNOWN"):
                await watched
            again = await ann.create()
            assert again.ticket_id == first.ticket_id
            await bob.create()
            await ann.wait_state(v1.TICKET_STATE_ASSIGNED)

    runs(scenario())


@contextlib.asynccontextmanager
async def said_of_outbox(brokers: Brokers, queue: str) -> AsyncIterator[asyncio.Event]:
    """Set when a process that does not lead has put something in the queue's outbox."""
    said = asyncio.Event()
    bus = await Bus.connect(brokers.nats.url, name="test")
    await bus.subscribe(subjects.outbox(QueueName(queue)), lambda _: said.set())
    yield said
    await bus.close()


def test_another_process_takes_calls_and_takes_over(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (first, peer),
            mm.fleet_peer() as (other_peer, address),
        ):
            second = mm.process(
                brokers, tmp_path, address, queues=[mm.document(queue)], instance="matchmaking-2"
            )
            try:
                await second.start()
                async with (
                    mm.players(first, queue, "ann") as (ann,),
                    mm.players(second, queue, "bob") as (bob,),
                    said_of_outbox(brokers, queue) as said,
                ):
                    ticket = await bob.create()
                    await asyncio.wait_for(said.wait(), mm.WITHIN_S)
                    watched = asyncio.create_task(bob.watch(ticket.ticket_id))
                    await asyncio.sleep(1.2)
                    await ann.create()
                    events = await watched
                    assert events[-1].HasField("assigned")
                    assert len(peer.rooms) == 1
                assert first.stop() == 0
                await second.wait_leading(queue)
                async with mm.players(second, queue, "cid", "dan") as (cid, dan):
                    await cid.create()
                    await dan.create()
                    await cid.wait_state(v1.TICKET_STATE_ASSIGNED)
                assert len(other_peer.rooms) == 1
            finally:
                second.kill()

    runs(scenario())


def test_a_frozen_leader_is_replaced_and_fenced(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (first, _),
            mm.fleet_peer() as (_other, address),
        ):
            second = mm.process(
                brokers, tmp_path, address, queues=[mm.document(queue)], instance="matchmaking-2"
            )
            try:
                await second.start()
                async with mm.players(second, queue, "ann", "bob") as (ann, bob):
                    with first.frozen():
                        await second.wait_leading(queue)
                        await ann.create()
                        await bob.create()
                        await ann.wait_state(v1.TICKET_STATE_ASSIGNED)
                await first.wait_ready()

                async def one_leader() -> bool:
                    views = [await asyncio.to_thread(one.status) for one in (first, second)]
                    return [view["queues"][queue]["leading"] for view in views] == [False, True]

                await mm.until(one_leader)
            finally:
                second.kill()

    runs(scenario())
