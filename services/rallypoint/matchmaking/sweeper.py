"""The sweeper: ends tickets whose time is over and forgets ended ones after their retention."""

from __future__ import annotations

import asyncio

from rallypoint.matchmaking.lane import Lane

PERIOD_S = 1.0
BATCH = 500


async def run(lane: Lane) -> None:
    """Sweep for ever. Raises `ticket_store.Fenced` or StoreUnavailable."""
    while True:
        looked = await sweep(lane)
        await asyncio.sleep(0 if looked == BATCH else PERIOD_S)


async def sweep(lane: Lane) -> int:
    """Handle one batch; how many tickets were looked at."""
    now = lane.clock.now()
    looked, changes = await lane.tickets.expire(lane.epoch, now_ms=int(now * 1000), limit=BATCH)
    for ticket_id, _row in changes:
        record = lane.leave(ticket_id)
        if record is not None:
            lane.ended("expired", now - record.search_start_ms / 1000)
    lane.tell(changes)
    return looked
