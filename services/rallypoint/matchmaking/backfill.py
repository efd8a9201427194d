"""Backfill: rooms of the queue that want players get them before new matches are made.

    room.request_backfill(n) ▸ `fill.<queue>.<room>` ▸ a match of one ticket with the room's id,
    committed like any other ▸ AddPlayers at the room's node ▸ an ordinary assignment

One ticket each, so that one who is refused holds nobody up. The room counts who has come: a leader
that died in between, or one that is ahead of what the room says, does no harm. AddPlayers is
idempotent by player, so a resumed match gets the same seat.
"""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from rallypoint.internal.v1 import events_pb2
from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.bus_kv import Entry
from rallypoint.kit.names import QueueName
from rallypoint.matchmaking.domain import backfill, ratings
from rallypoint.matchmaking.domain.backfill import Searching, Wish
from rallypoint.matchmaking.lane import Lane

logger = logging.getLogger(__name__)


async def run(lane: Lane, bus: Bus) -> None:
    """Follow the wishes of the queue's rooms, for ever. Raises StoreUnavailable."""
    lane.wishes.clear()
    by_key: dict[str, str] = {}
    pattern = subjects.fills_of(QueueName(lane.config.queue))
    async for entry in bus.kv(subjects.OWNERS.name).watch(pattern):
        if not entry.key:
            continue
        record = _record(entry)
        if record is None or not record.seats:
            lane.wishes.pop(by_key.pop(entry.key, ""), None)
            continue
        by_key[entry.key] = record.room_id
        wish = lane.wishes.get(record.room_id)
        if wish is None:
            match = await lane.tickets.read_match(record.room_id)
            wish = lane.wishes[record.room_id] = Wish(
                record.room_id, record.address, record.seats, entry.revision, _level(match)
            )
        over_at = lane.clock.now() + subjects.FILL_TTL_S
        wish.said(record.address, record.seats, entry.revision, over_at=over_at)
        lane.arrived.set()


def _record(entry: Entry) -> events_pb2.BackfillRecord | None:
    try:
        return events_pb2.BackfillRecord.FromString(entry.value) if entry.value else None
    except DecodeError:
        logger.error("backfill_malformed", extra={"key": entry.key})
        return None


def _level(match: pb.MatchRecord | None) -> float | None:
    if match is None or not match.players:
        return None
    return sum(player.rating for player in match.players) / len(match.players)


def refused(lane: Lane, match: pb.MatchRecord, error: errors.RallypointError) -> None:
    """The room of a match did not take its player."""
    wish = lane.wishes.get(match.room_id)
    if wish is None:
        return
    final = isinstance(error, errors.PermissionDenied | errors.InvalidArgument)
    until = None if final else lane.clock.now() + backfill.PAUSE_S
    wish.failed(match.ticket_ids[0], match.players[0].player_id, until=until)
    if isinstance(error, errors.NotFound) and wish.address == match.address:
        del lane.wishes[match.room_id]  # one that lives says it again


def _forget(lane: Lane, now: float) -> None:
    """Rooms that died say nothing, and watchers do not see their keys expire."""
    for room_id in [each.room_id for each in lane.wishes.values() if now >= each.over_at]:
        del lane.wishes[room_id]


def chosen(lane: Lane) -> list[tuple[Wish, Searching]]:
    """Who goes to which room now, of those who search, who came first first."""
    now = lane.clock.now()
    _forget(lane, now)
    if not any(wish.free(now) for wish in lane.wishes.values()):
        return []
    records = sorted(lane.records.values(), key=lambda record: record.search_start_ms)
    searching = (
        Searching(
            record.ticket_id,
            record.player_id,
            ratings.points(record.mu),
            lane.config.reach(max(0.0, now - record.search_start_ms / 1000)),
        )
        for record in records
    )
    return backfill.choose([*lane.wishes.values()], searching, now)
