"""The outbox relay: facts from Redis to JetStream, in order, none lost, none twice.

The leader reads the queue's outbox, publishes with a message id made of the fact itself and only
then forgets it: a crash in between publishes again and the stream drops the copy. On the way it
learns what other processes did: tickets they queued enter the pool, tickets they withdrew leave
it. They say so on core NATS (`announce`); should that get lost, a look each second finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from rallypoint.internal.v1 import events_pb2
from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import MatchId, QueueName, TicketId
from rallypoint.matchmaking.domain import tickets
from rallypoint.matchmaking.domain.tickets import State
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.ticket_store import OutboxEntry
from rallypoint.v1 import matchmaking_pb2

logger = logging.getLogger(__name__)

BATCH = 256
IDLE_S = 1.0
"""How often the outbox is looked at although nobody said that something is there."""
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0

STATES = {
    State.QUEUED: matchmaking_pb2.TICKET_STATE_QUEUED,
    State.PROPOSED: matchmaking_pb2.TICKET_STATE_PROPOSED,
    State.ASSIGNED: matchmaking_pb2.TICKET_STATE_ASSIGNED,
    State.CANCELLED: matchmaking_pb2.TICKET_STATE_CANCELLED,
    State.EXPIRED: matchmaking_pb2.TICKET_STATE_EXPIRED,
}
LETTERS = {wire: state for state, wire in STATES.items()}


async def announce(lane: Lane, bus: Bus) -> None:
    """While another process leads: tell it, for ever, what this one puts in the outbox."""
    subject = subjects.outbox(QueueName(lane.config.queue))
    while True:
        await lane.outgoing.wait()
        lane.outgoing.clear()
        with contextlib.suppress(errors.Unavailable):  # the leader finds it a little later
            await bus.publish(subject, b"")


async def run(lane: Lane, bus: Bus) -> None:
    """Relay for ever. Raises StoreUnavailable; waits while NATS is away."""
    retry_s = RETRY_FIRST_S
    async with _hearing(lane, bus):
        while True:
            lane.outgoing.clear()  # first: what is said from here on leads to another look
            entries = await lane.tickets.outbox(BATCH)
            await _learn(lane, entries)
            if not await _publish(lane, bus, entries):
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_MAX_S)
                continue
            retry_s = RETRY_FIRST_S
            if entries:
                await lane.tickets.outbox_done([entry.entry_id for entry in entries])
            if len(entries) < BATCH:
                await _wait_more(lane)


@contextlib.asynccontextmanager
async def _hearing(lane: Lane, bus: Bus) -> AsyncIterator[None]:
    """Hear of what other processes put in the outbox meanwhile."""
    subject = subjects.outbox(QueueName(lane.config.queue))
    heard = await bus.subscribe(subject, lambda _: lane.outgoing.set())
    try:
        yield
    finally:
        await heard.unsubscribe()


async def _wait_more(lane: Lane) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await lane.outgoing.wait()


async def _learn(lane: Lane, entries: Sequence[OutboxEntry]) -> None:
    """Bring the pool in line with what other processes did."""
    arrived: list[str] = []
    for entry in entries:
        if entry.kind != "ticket":
            continue
        row = tickets.parse_row(entry.value.decode())
        if row.state is not State.QUEUED:
            lane.tell([(entry.name, row)])
        elif entry.name not in lane.records:
            arrived.append(entry.name)
    if arrived:
        for record, row in await lane.tickets.queued(arrived):
            lane.enter(record, row)


async def _publish(lane: Lane, bus: Bus, entries: Sequence[OutboxEntry]) -> bool:
    """Publish all; False when some acks did not come, then all are published again."""
    facts = [fact(lane.config.queue, entry) for entry in entries]
    try:
        async with asyncio.TaskGroup() as group:
            for subject, data, msg_id in facts:
                sending = bus.publish_fact(subject, data, msg_id=msg_id)
                group.create_task(sending, name=f"relay.{msg_id}")
    except* errors.Unavailable:
        logger.info("relay_waits", extra={"queue": lane.config.queue})
        done = False
    else:
        done = True
    return done


def fact(queue: str, entry: OutboxEntry) -> tuple[str, bytes, str]:
    """Subject, payload and message id of an outbox entry."""
    name = QueueName(queue)
    if entry.kind == "match":
        match = pb.MatchRecord.FromString(entry.value)
        match_fact = events_pb2.MatchFact(
            match_id=match.match_id, queue=queue, epoch=match.epoch, players=match.players
        )
        subject = subjects.match(name, MatchId(entry.name))
        return subject, match_fact.SerializeToString(), entry.name
    row = tickets.parse_row(entry.value.decode())
    ticket_fact = events_pb2.TicketFact(
        ticket_id=entry.name,
        queue=queue,
        player_id=row.player_id,
        state=STATES[row.state],
        seq=row.seq,
        match_id=row.match_id,
        reason=row.reason,
    )
    subject = subjects.ticket(name, TicketId(entry.name))
    return subject, ticket_fact.SerializeToString(), f"{entry.name}.{row.seq}"
