"""A ticket lives as long as somebody attends to it, whatever restarts; without anybody it ends.

Tickets are looked at in Redis here, since asking the service would attend to them. Queues need
three players, so that two tickets stay tickets.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import QueueName, TicketId
from rallypoint.kit.store import Store
from rallypoint.matchmaking.domain.tickets import State
from rallypoint.matchmaking.ticket_store import TicketStore
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]
Peek = Callable[[v1.Ticket], Awaitable[State | None]]
UNATTENDED_S = 2.0
LONG_S = 4.0
"""Well past the end of a ticket that nobody attends to."""


def trio(queue: str, **changes: Any) -> dict[str, Any]:
    return mm.document(queue, team_count=3, **{"unattended_s": UNATTENDED_S, **changes})


def peeking(store: Store, queue: str) -> Peek:
    held = TicketStore(store, queue, retention_s=60)

    async def peek(ticket: v1.Ticket) -> State | None:
        standing = await held.read(ticket.ticket_id)
        return standing.row.state if standing else None

    return peek


async def until_ended(peek: Peek, ticket: v1.Ticket) -> None:
    async def ended() -> bool:
        return await peek(ticket) is State.EXPIRED

    await mm.until(ended)


@contextlib.asynccontextmanager
async def watching(player: mm.Player, ticket: v1.Ticket) -> AsyncIterator[None]:
    """Keep a stream of the ticket open; open it again when it breaks, as clients do."""

    async def keep() -> None:
        while True:
            with contextlib.suppress(errors.RallypointError):
                await player.watch(ticket.ticket_id)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(keep(), name="watching")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def states_told(bus: Bus, queue: str, ticket: v1.Ticket) -> list[int]:
    """The states of a ticket's facts up to its end."""
    states: list[int] = []
    subject = subjects.ticket(QueueName(queue), TicketId(ticket.ticket_id))
    async with asyncio.timeout(mm.WITHIN_S):
        async for fact in bus.ordered(subjects.TICKETS.name, subject):
            states.append(events_pb2.TicketFact.FromString(fact.data).state)
            if states[-1] == v1.TICKET_STATE_EXPIRED:
                break
    return states


def test_a_ticket_nobody_attends_to_ends_and_is_never_matched(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, unattended_s=UNATTENDED_S)
        async with (
            connected(brokers) as (bus, store),
            mm.started(brokers, tmp_path, document) as (process, peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            peek = peeking(store, queue)
            gone = await ann.create()
            await until_ended(peek, gone)
            told = await states_told(bus, queue, gone)
            assert told == [v1.TICKET_STATE_QUEUED, v1.TICKET_STATE_EXPIRED]
            alone = await bob.create()
            async with watching(bob, alone):
                await asyncio.sleep(LONG_S)
                assert (await peek(gone), await peek(alone)) == (State.EXPIRED, State.QUEUED)
                assert not peer.rooms
                assert (await ann.create("back")).ticket_id != gone.ticket_id
                await bob.wait_state(v1.TICKET_STATE_ASSIGNED)

    runs(scenario())


def test_an_open_watch_keeps_a_ticket_and_its_end_does_not(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (_, store),
            mm.started(brokers, tmp_path, trio(queue)) as (process, _),
            mm.players(process, queue, "ann", "eve") as (ann, eve),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create()
            async with watching(ann, ticket):
                await asyncio.sleep(LONG_S)
                assert await peek(ticket) is State.QUEUED
            async with watching(eve, ticket):  # refused: not her ticket
                await until_ended(peek, ticket)

    runs(scenario())


def test_a_reload_keeps_the_ticket(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (_, store),
            mm.started(brokers, tmp_path, trio(queue)) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create()
            for _ in range(3):
                async with watching(ann, ticket):
                    await asyncio.sleep(0.7)
                await asyncio.sleep(0.7)
                assert await peek(ticket) is State.QUEUED

    runs(scenario())


async def ask(player: mm.Player, how: str) -> None:
    """One call of a player about their ticket."""
    if how == "GetTicket":
        await player.get()
    elif how == "CreateTicket":
        await player.create("r1")
    else:
        with pytest.raises(errors.AlreadyExists):
            await player.create("another")


@pytest.mark.parametrize("how", ["GetTicket", "CreateTicket", "CreateTicket of another tab"])
def test_asking_again_and_again_keeps_the_ticket(
    how: str, brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (_, store),
            mm.started(brokers, tmp_path, trio(queue)) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create("r1")
            for _ in range(6):
                await asyncio.sleep(LONG_S / 6)
                await ask(ann, how)
            assert await peek(ticket) is State.QUEUED
            await until_ended(peek, ticket)

    runs(scenario())


@contextlib.asynccontextmanager
async def outage(how: str, process: mm.Process, brokers: Brokers) -> AsyncIterator[None]:
    """Take away matchmaking or Redis meanwhile."""
    if how == "matchmaking killed":
        process.kill()
        yield
        await process.start()
    elif how == "matchmaking frozen":
        with process.frozen():
            yield
    else:
        await asyncio.to_thread(brokers.redis.kill)
        yield
        await asyncio.to_thread(brokers.redis.start)


@pytest.mark.parametrize("how", ["matchmaking killed", "redis killed"])
def test_watched_tickets_outlive_an_outage(
    how: str, own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(own_brokers) as (_, store),
            mm.started(own_brokers, tmp_path, trio(queue)) as (process, _),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create()
            async with watching(ann, ticket):
                await asyncio.sleep(1.2)  # a write is safe once it is synced, 1 s
                gone = await bob.create()
                async with outage(how, process, own_brokers):
                    await asyncio.sleep(LONG_S)
                await mm.until(lambda: over(peek, gone))
                await asyncio.sleep(LONG_S)
                assert await peek(ticket) is State.QUEUED
            await until_ended(peek, ticket)

    runs(scenario())


@pytest.mark.parametrize("how", ["matchmaking killed", "matchmaking frozen", "redis killed"])
def test_after_an_outage_everybody_has_time_to_come_back(
    how: str, own_brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(own_brokers) as (_, store),
            mm.started(own_brokers, tmp_path, trio(queue, unattended_s=3)) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create()
            await asyncio.sleep(1.2)
            async with outage(how, process, own_brokers):
                await asyncio.sleep(3)
            await process.wait_leading(queue)
            await asyncio.sleep(1)  # sweeps came and went, and nobody attended
            assert await peek(ticket) is State.QUEUED
            await until_ended(peek, ticket)

    runs(scenario())


async def over(peek: Peek, ticket: v1.Ticket) -> bool:
    """Whether it ended, or was lost as its write was younger than a sync; False while unknown."""
    try:
        return await peek(ticket) in {State.EXPIRED, None}
    except errors.Unavailable:
        return False


def test_a_stream_at_another_process_keeps_the_ticket(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (_, store),
            mm.fleet_peer() as (_, address),
            mm.started(brokers, tmp_path, trio(queue)) as (leader, _),
        ):
            peek = peeking(store, queue)
            second = mm.process(
                brokers, tmp_path, address, queues=[trio(queue)], instance="matchmaking-2"
            )
            try:
                await second.start()
                async with mm.players(second, queue, "ann") as (ann,):
                    ticket = await ann.create()
                    async with watching(ann, ticket):
                        await asyncio.sleep(LONG_S)
                        assert leader.stop() == 0
                        await second.wait_leading(queue)
                        await asyncio.sleep(LONG_S)
                        assert await peek(ticket) is State.QUEUED
                    await until_ended(peek, ticket)
            finally:
                second.kill()

    runs(scenario())


def test_no_attention_leads_past_the_time_to_live(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            mm.started(brokers, tmp_path, trio(queue, ticket_ttl_s=3)) as (process, _),
            mm.players(process, queue, "ann") as (ann,),
        ):
            ticket = await ann.create()
            events = await ann.watch(ticket.ticket_id)
            assert events[-1].ended.state == v1.TICKET_STATE_EXPIRED
            ended = (await ann.get()).expire_time.ToMilliseconds()
            assert ended - ticket.search_start_time.ToMilliseconds() == 3_000
            assert time.time() * 1000 >= ended

    runs(scenario())


def test_without_the_rule_a_ticket_lives_out_its_time(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (_, store),
            mm.started(brokers, tmp_path, trio(queue, unattended_s=0, ticket_ttl_s=8)) as (
                process,
                _,
            ),
            mm.players(process, queue, "ann") as (ann,),
        ):
            peek = peeking(store, queue)
            ticket = await ann.create()
            await asyncio.sleep(LONG_S)
            assert await peek(ticket) is State.QUEUED
            await until_ended(peek, ticket)

    runs(scenario())
