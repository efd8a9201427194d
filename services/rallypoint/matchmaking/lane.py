"""A lane: everything one process holds of one queue.

Every process has a lane per queue, to answer calls and to push notices to watchers. Only the
leading lane has a pool, from `begin` to `end`. The pool may lag behind Redis (a
cancelled ticket, say): then the commit is refused and the pool corrected; Redis is the judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import metrics
from rallypoint.kit.clock import Clock
from rallypoint.matchmaking.domain import ratings
from rallypoint.matchmaking.domain.backfill import Wish
from rallypoint.matchmaking.domain.entry import Entry
from rallypoint.matchmaking.domain.hub import Hub, Notice
from rallypoint.matchmaking.domain.pace import Pace
from rallypoint.matchmaking.domain.queues import QueueConfig
from rallypoint.matchmaking.domain.tickets import Row, State
from rallypoint.matchmaking.domain.waits import Progress, WaitRecord
from rallypoint.matchmaking.rating_store import RatingStore
from rallypoint.matchmaking.ticket_store import TicketStore

if TYPE_CHECKING:  # numpy: 0.1 s that only a leader pays
    from rallypoint.matchmaking.domain.columns import Pool

REQUEUE_PRIORITY_S = 30.0
"""What a ticket that lost its match is granted on top of its waiting: first in line."""
POSITIONS_FOR_S = 0.5


@dataclass(slots=True)
class Lane:
    """One queue in one process."""

    config: QueueConfig
    tickets: TicketStore
    ratings: RatingStore
    clock: Clock
    pace: Pace
    hub: Hub = field(default_factory=Hub)
    waits: WaitRecord = field(default_factory=WaitRecord)
    pool: Pool | None = None
    """The searching tickets; None while another process leads."""
    records: dict[str, pb.TicketRecord] = field(default_factory=dict)
    """Records of the tickets in the pool."""
    epoch: int = 0
    """The epoch this lane leads with; 0 while another process does."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the matcher should look again."""
    outgoing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the outbox has something."""
    wishes: dict[str, Wish] = field(default_factory=dict)
    """Rooms that want players, while this process leads."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when watchers are to come again: the process stops, or the queue is gone."""
    cycle_ms: float = 0.0
    assigning: int = 0
    _positions: dict[str, int] = field(default_factory=dict)
    _positions_until: float = 0.0

    @property
    def leading(self) -> bool:
        """Whether this process matches the queue."""
        return self.epoch > 0

    def change(self, config: QueueConfig) -> None:
        """Take another document of the queue."""
        self.config = config
        self.tickets.unattended_s = config.unattended_s
        self.arrived.set()

    def begin(self, epoch: int, pool: Pool) -> None:
        """Start leading, with an empty pool."""
        self.end()
        self.epoch, self.pool = epoch, pool

    def end(self) -> None:
        """Stop leading."""
        self.epoch, self.pool = 0, None
        self.records.clear()
        self._count()

    def enter(self, record: pb.TicketRecord, row: Row) -> None:
        """A ticket is queued: put it in the pool of the leading lane."""
        self.outgoing.set()
        if self.pool is None:
            return
        entry = Entry(
            ticket_id=record.ticket_id,
            skill=ratings.points(record.mu),
            search_start=record.search_start_ms / 1000,
            priority=row.requeues * REQUEUE_PRIORITY_S,
        )
        if self.pool.add(entry):
            self.records[record.ticket_id] = record
            self.pace.arrivals += 1
            self._count()
            self.arrived.set()

    def leave(self, ticket_id: str) -> pb.TicketRecord | None:
        """A ticket is not queued any more; its record if it was in the pool."""
        if self.pool is not None:
            self.pool.remove(ticket_id)
        record = self.records.pop(ticket_id, None)
        self._count()
        return record

    def tell(self, changes: Iterable[tuple[str, Row]], match: pb.MatchRecord | None = None) -> None:
        """Push changed tickets to their watchers; those that ended or are held leave the pool."""
        record = None if match is None else match.SerializeToString()
        for ticket_id, row in changes:
            if row.state is not State.QUEUED:
                self.leave(ticket_id)
            self.hub.post(Notice(ticket_id, row, record))
        self.outgoing.set()

    def ended(self, outcome: str, waited_s: float) -> None:
        """Measure how a search ended."""
        metrics.MM_WAIT_SECONDS.labels(self.config.queue, outcome).observe(waited_s)

    async def progress(self, record: pb.TicketRecord) -> Progress:
        """What a searching player is shown now."""
        waited = max(0.0, self.clock.now() - record.search_start_ms / 1000)
        position, searching = await self._place(record.ticket_id)
        return Progress(
            position=position,
            searching=searching,
            estimated_wait_s=self.waits.left_s(waited),
            rating_range=round(self.config.reach(waited)),
            needed=self.config.min_players,
            step=self.config.step(waited),
        )

    async def searching(self) -> int:
        """Players searching."""
        return await self.tickets.searching() if self.pool is None else len(self.pool)

    def _count(self) -> None:
        metrics.MM_TICKETS.labels(self.config.queue).set(len(self.records))

    async def _place(self, ticket_id: str) -> tuple[int, int]:
        if self.pool is None:
            return await self.tickets.place(ticket_id)
        now = self.clock.monotonic()
        if now >= self._positions_until:
            self._positions = self.pool.positions()
            self._positions_until = now + POSITIONS_FOR_S
        return self._positions.get(ticket_id, len(self.pool)), len(self.pool)
