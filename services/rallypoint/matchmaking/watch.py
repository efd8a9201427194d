"""WatchTicket: a ticket's changes as they happen, and its numbers each second while it is queued.

Changes are pushed: by this process's own transitions, or by the TICKETS stream when another process
leads. Redis is read when the stream opens and every few seconds after that, so a lost notice costs
seconds, not the match. Events are ordered and without repeats by seq; states may be skipped when
changes come faster than they are read. The stream ends after the ticket has ended. While it is
open, the ticket does not end for want of attention (attention.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, metrics, waiting
from rallypoint.kit.store import StoreUnavailable
from rallypoint.matchmaking import attention, views
from rallypoint.matchmaking.domain.hub import Inbox
from rallypoint.matchmaking.domain.tickets import Row, State
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.ticket_store import Standing
from rallypoint.v1 import matchmaking_pb2 as v1

BEAT_S = 1.0
READ_EVERY_BEATS = 3


@dataclass(slots=True)
class Watch:
    """One open stream."""

    lane: Lane
    ticket_id: str
    seen: int
    """The seq of the last event sent, or the caller's after_seq."""
    stopping: asyncio.Event
    record: pb.TicketRecord = field(default_factory=pb.TicketRecord)
    row: Row | None = None
    step: int = 0
    """Tolerance steps the player was told of."""
    beats: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def events(self, player_id: str) -> AsyncIterator[v1.WatchTicketResponse]:
        """Everything after `seen`. NotFound `TICKET_UNKNOWN` unless the ticket is the player's."""
        inbox = self.lane.hub.open(self.ticket_id, self.wake.set)
        gauge = metrics.MM_WATCHERS.labels(self.lane.config.queue)
        gauge.inc()
        try:
            standing = await owned(self.lane, self.ticket_id, player_id)
            self.record = standing.record
            inbox.expire_ms = standing.record.expire_ms
            await attention.attend_one(self.lane, standing)
            if self.seen > standing.row.seq:
                self.seen = 0  # made anew with the same request after Redis was lost
            for response in await self._news(standing.row, standing.match):
                yield response
            while self.row is not None and not self.row.ended:
                for response in await self._next(inbox):
                    yield response
        finally:
            gauge.dec()
            self.lane.hub.close(inbox)

    async def _next(self, inbox: Inbox) -> list[v1.WatchTicketResponse]:
        """What notices brought, or after a beat without any the ticket's numbers."""
        if await self._wait():
            responses: list[v1.WatchTicketResponse] = []
            while notice := inbox.take():
                match = pb.MatchRecord.FromString(notice.record) if notice.record else None
                responses += await self._news(notice.row, match)
            return responses
        self.beats += 1
        if self.beats % READ_EVERY_BEATS == 0 and (news := await self._read_again()):
            return news
        return await self._beat()

    async def _wait(self) -> bool:
        """True when there is a notice, False after a beat. Unavailable when we shut down."""
        if self.stopping.is_set():
            raise errors.Unavailable("DRAINING", "reconnect", retry_after_s=0.2)
        woken = await waiting.happens(self.wake, BEAT_S)
        self.wake.clear()
        return woken

    async def _read_again(self) -> list[v1.WatchTicketResponse]:
        """NotFound `TICKET_UNKNOWN` when Redis was lost: the client makes the ticket anew."""
        with contextlib.suppress(StoreUnavailable):  # what we know stays true meanwhile
            standing = await owned(self.lane, self.ticket_id, self.record.player_id)
            return await self._news(standing.row, standing.match)
        return []

    async def _news(self, row: Row, match: pb.MatchRecord | None) -> list[v1.WatchTicketResponse]:
        """The event of a row, unless it was sent before."""
        first = self.row is None
        if not first and self.row is not None and row.seq <= self.row.seq:
            return []
        self.row = row
        if row.seq <= self.seen:
            return []
        self.seen = row.seq
        if match is None and row.match_id:
            match = await self._match(row.match_id)
        responses: list[v1.WatchTicketResponse] = []
        if row.state is not State.QUEUED or row.reason:
            responses.append(views.event(self.ticket_id, row, match))
        if row.state is State.QUEUED:
            responses += await self._beat()
        return responses

    async def _match(self, match_id: str) -> pb.MatchRecord | None:
        with contextlib.suppress(StoreUnavailable):
            return await self.lane.tickets.read_match(match_id)
        return None

    async def _beat(self) -> list[v1.WatchTicketResponse]:
        """The numbers of the search, or an empty heartbeat while a match is being made."""
        response = v1.WatchTicketResponse(seq=self.row.seq if self.row else 0)
        if self.row is not None and self.row.state is State.QUEUED:
            with contextlib.suppress(StoreUnavailable):
                shown = await self.lane.progress(self.record)
                target = response.expanded if shown.step > self.step else response.queued
                self.step = shown.step
                target.CopyFrom(views.progress(shown))
        return [response]


async def owned(lane: Lane, ticket_id: str, player_id: str) -> Standing:
    """A player's own ticket; NotFound `TICKET_UNKNOWN` for any other."""
    standing = await lane.tickets.read(ticket_id)
    if standing is None or standing.record.player_id != player_id:
        raise errors.NotFound("TICKET_UNKNOWN", "you have no such ticket in this queue")
    return standing
