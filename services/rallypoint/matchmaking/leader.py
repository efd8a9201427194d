"""Leading a queue: lease, epoch, takeover, and the tasks only a leader runs.

    follow ──lease acquired──▸ term ──▸ session: epoch into Redis first, pool rebuilt, matches
      ▴                         │ ▴     without a room resumed; matcher, relay, sweeper, results
      └──lease lost or fenced───┘ └──Redis was away: the same term, a new session

Crash-only: a session keeps nothing that Redis does not have, so any doubt (a lost reply, a
conflict of epochs) ends it and the next one starts from Redis. While not leading, the lane follows
the TICKETS stream, so that its watchers hear what the leader does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rallypoint.internal.v1 import events_pb2
from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.lease import Lease
from rallypoint.kit.names import PlayerId, QueueName
from rallypoint.kit.store import StoreUnavailable
from rallypoint.matchmaking import backfill, matcher, relay, results, sweeper
from rallypoint.matchmaking.assigner import Assigner
from rallypoint.matchmaking.domain.columns import Pool
from rallypoint.matchmaking.domain.hub import Notice
from rallypoint.matchmaking.domain.tickets import Row
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.ticket_store import Fenced

logger = logging.getLogger(__name__)

RETRY_S = 0.3


class LeadershipLost(Exception):
    """The lease ran out or went to somebody else."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who leads, for the lease."""

    instance: str
    incarnation: str


async def run(lane: Lane, bus: Bus, assigner: Assigner, identity: Identity) -> None:
    """Follow and lead in turns, for ever; gives the lease up when cancelled."""
    lease = Lease(
        bus.kv(subjects.LEASES.name),
        epoch_kv=bus.kv(subjects.CONFIG.name),
        name=subjects.lease(QueueName(lane.config.queue)),
        holder=identity.instance,
        incarnation=identity.incarnation,
        clock=lane.clock,
    )
    while True:
        async with _following(lane, bus):
            await lease.acquire(at_least=await _known_epoch(lane))
        async with asyncio.TaskGroup() as group:
            group.create_task(lease.keep(), name="lease.keep")
            try:
                await _term(lane, bus, assigner, lease)
            finally:
                lane.end()
                await lease.release()


async def _known_epoch(lane: Lane) -> int:
    """The epoch Redis knows, once it answers."""
    while True:
        try:
            return await lane.tickets.epoch()
        except StoreUnavailable:
            await asyncio.sleep(RETRY_S)


async def _term(lane: Lane, bus: Bus, assigner: Assigner, lease: Lease) -> None:
    """Lead until the lease is lost or another leader is seen."""
    over = False
    while not over:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_until_lost(lease), name="lease.watch")
                await _session(lane, bus, assigner, group=group, epoch=lease.epoch)
        except* StoreUnavailable:
            logger.warning("session_restarts", extra={"queue": lane.config.queue})
        except* (Fenced, LeadershipLost) as lost:
            logger.warning(
                "leadership_ends",
                extra={"queue": lane.config.queue, "reason": repr(lost.exceptions[0])},
            )
            over = True
        lane.end()
        await asyncio.sleep(RETRY_S)


async def _until_lost(lease: Lease) -> None:
    await lease.wait_over()
    raise LeadershipLost


async def _session(
    lane: Lane, bus: Bus, assigner: Assigner, *, group: asyncio.TaskGroup, epoch: int
) -> None:
    """Take over and start what a leader runs."""
    queue = lane.config.queue
    known = await lane.tickets.raise_epoch(epoch)
    if known != epoch:
        raise Fenced(str(known))
    pool = Pool()
    lane.begin(epoch, pool)

    def assign(match: pb.MatchRecord) -> None:
        group.create_task(assigner.assign(lane, match), name=f"assign.{match.match_id}")

    for record, row in await lane.tickets.all_queued():
        lane.enter(record, row)
    pending = await lane.tickets.unassigned()
    for match in pending:
        assign(match)
    logger.info(
        "leading",
        extra={
            "queue": queue, "epoch": epoch, "tickets": len(pool), "resumed": len(pending),
        },
    )  # fmt: skip
    desk = matcher.Desk(lane, pool, assign)
    group.create_task(backfill.run(lane, bus), name=f"backfill.{queue}")
    group.create_task(matcher.run(desk), name=f"matcher.{queue}")
    group.create_task(relay.run(lane, bus), name=f"relay.{queue}")
    group.create_task(sweeper.run(lane), name=f"sweeper.{queue}")
    group.create_task(results.run(lane, bus), name=f"results.{queue}")


@contextlib.asynccontextmanager
async def _following(lane: Lane, bus: Bus) -> AsyncIterator[None]:
    """Follow the TICKETS stream meanwhile, and tell the leader what this process does."""
    queue = lane.config.queue
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_follow(lane, bus), name=f"follow.{queue}"),
            group.create_task(relay.announce(lane, bus), name=f"announce.{queue}"),
        ]
        yield
        for task in tasks:
            task.cancel()


async def _follow(lane: Lane, bus: Bus) -> None:
    start_seq = await _stream_end(bus) + 1
    queue = QueueName(lane.config.queue)
    async for fact in bus.ordered(
        subjects.TICKETS.name, subjects.tickets_of(queue), start_seq=start_seq
    ):
        ticket = events_pb2.TicketFact.FromString(fact.data)
        row = Row(
            relay.LETTERS[ticket.state],
            ticket.seq,
            0,
            PlayerId(ticket.player_id),
            ticket.match_id,
            ticket.reason,
        )
        lane.hub.post(Notice(ticket.ticket_id, row))


async def _stream_end(bus: Bus) -> int:
    """The last sequence of TICKETS: what came before is read from Redis anyway."""
    while True:
        try:
            info = await bus.api(f"STREAM.INFO.{subjects.TICKETS.name}")
        except errors.RallypointError:
            await asyncio.sleep(RETRY_S)
        else:
            return int(info["state"]["last_seq"])
