"""Attending to tickets, so that the ticket of a player who is gone ends soon (domain/attention.py).

Open WatchTicket streams attend for as long as they are open, whichever process has them: each one
refreshes all of its own at once, as often as `attention.refresh_s` says. A stream that opens,
GetTicket and CreateTicket attend once. After the last stream broke, a ticket lives on for three
quarters of `unattended_s` to all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from rallypoint.kit.store import StoreUnavailable
from rallypoint.matchmaking.domain import attention
from rallypoint.matchmaking.domain.tickets import State
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.ticket_store import Standing

RETRY_S = 0.2
LOOK_S = 5.0
"""How soon a document is obeyed that changes `unattended_s`."""


async def run(lane: Lane) -> None:
    """Refresh what this process watches, for ever; tries on while Redis is away."""
    attended_at = lane.clock.monotonic()
    while True:
        period_s = attention.refresh_s(lane.config.unattended_s)
        left_s = attended_at + period_s - lane.clock.monotonic() if period_s else LOOK_S
        if left_s > 0:
            await asyncio.sleep(min(left_s, LOOK_S))
        elif await _refreshed(lane):
            attended_at = lane.clock.monotonic()
        else:
            await asyncio.sleep(min(RETRY_S, period_s))


async def _refreshed(lane: Lane) -> bool:
    try:
        await attend(lane, lane.hub.watched())
    except StoreUnavailable:
        return False
    return True


async def attend(lane: Lane, expiries_ms: Mapping[str, int]) -> None:
    """Somebody attends now to tickets, given with the end of their time to live."""
    if expiries_ms:
        await lane.tickets.attend(expiries_ms, now_ms=int(lane.clock.now() * 1000))


async def attend_one(lane: Lane, standing: Standing) -> None:
    """Somebody attends now to this ticket, if it is queued."""
    if lane.config.unattended_s and standing.row.state is State.QUEUED:
        await attend(lane, {standing.record.ticket_id: standing.record.expire_ms})
