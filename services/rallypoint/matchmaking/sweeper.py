"""The sweeper: ends tickets whose time is over and forgets ended ones after their retention.

Over is the time to live, or `unattended_s` without anybody's attention. A first or late sweep
attends to all queued tickets before it ends any (domain/attention.py says why).
"""

from __future__ import annotations

import asyncio

from rallypoint.matchmaking import attention as attending
from rallypoint.matchmaking.domain import attention
from rallypoint.matchmaking.lane import Lane

BATCH = 500


async def run(lane: Lane) -> None:
    """Sweep for ever. Raises `ticket_store.Fenced` or StoreUnavailable."""
    swept: float | None = None
    while True:
        unattended_s = lane.config.unattended_s
        now = lane.clock.now()  # of the wall: the clock the expiries are measured with
        if attention.is_late(None if swept is None else now - swept, unattended_s):
            await attending.attend(lane, {t: r.expire_ms for t, r in lane.records.items()})
        swept = lane.clock.now()
        looked = await sweep(lane, now=swept)
        await asyncio.sleep(0 if looked == BATCH else attention.sweep_s(unattended_s))


async def sweep(lane: Lane, *, now: float) -> int:
    """Handle one batch of what is due by `now`, in Unix seconds; how many were looked at."""
    looked, changes = await lane.tickets.expire(lane.epoch, now_ms=int(now * 1000), limit=BATCH)
    for ticket_id, _row in changes:
        record = lane.leave(ticket_id)
        if record is not None:
            outcome = "expired" if now * 1000 >= record.expire_ms else "unattended"
            lane.ended(outcome, now - record.search_start_ms / 1000)
    lane.tell(changes)
    return looked
