"""Results into ratings, each exactly once.

One ordered consumer per queue, in the leader, from the position that the last applied result left
in Redis. Redis decides: position, mark and ratings are written together under the leader's epoch,
so a result delivered twice, or by a fenced leader, changes nothing. The first result of a match
counts; one from a room's lower epoch than the one its players were sent to is refused.
"""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import metrics, subjects, telemetry
from rallypoint.kit.bus import Bus, Fact
from rallypoint.kit.names import QueueName
from rallypoint.matchmaking.domain import ratings
from rallypoint.matchmaking.lane import Lane

logger = logging.getLogger(__name__)


async def run(lane: Lane, bus: Bus) -> None:
    """Apply results for ever. Raises `ticket_store.Fenced` or StoreUnavailable."""
    queue = QueueName(lane.config.queue)
    start_seq = await lane.ratings.position() + 1
    async for fact in bus.ordered(
        subjects.RESULTS.name, subjects.result(queue), start_seq=start_seq
    ):
        with telemetry.span(
            "process result",
            kind="consumer",
            parent=fact.headers,
            links=[fact.headers],
            attributes={"messaging.system": "nats", "queue": lane.config.queue},
        ) as span:
            outcome = await handle(lane, fact)
            span.set_attribute("outcome", outcome)
        metrics.MM_RESULTS.labels(lane.config.queue, outcome).inc()


async def handle(lane: Lane, fact: Fact) -> str:
    """Apply one result: rated, unrated, duplicate, stale or malformed."""
    try:
        result_fact = events_pb2.ResultFact.FromString(fact.data)
    except DecodeError:
        result_fact = events_pb2.ResultFact()
    match_id = result_fact.result.match_id
    if not match_id:
        logger.error("result_malformed", extra={"queue": lane.config.queue, "seq": fact.seq})
        await _apply(lane, "", {}, fact.seq)
        return "malformed"
    match = await lane.tickets.read_match(match_id)
    if match is not None and result_fact.epoch < match.room_epoch:
        logger.warning("result_stale", extra={"match_id": match_id, "epoch": result_fact.epoch})
        await _apply(lane, "", {}, fact.seq)
        return "stale"
    after = await _rate(lane, result_fact)
    if not await _apply(lane, match_id, after, fact.seq):
        return "duplicate"
    return "rated" if after else "unrated"


async def _rate(lane: Lane, fact: events_pb2.ResultFact) -> dict[str, ratings.Skill]:
    result = fact.result
    if not result.rated:
        return {}
    placings = [
        ratings.Placing(placement.player_id, placement.team, placement.rank)
        for placement in result.placements
    ]
    before = await lane.ratings.read_many([placing.player_id for placing in placings])
    return ratings.rate(result.match_id, placings, before)


async def _apply(lane: Lane, match_id: str, after: dict[str, ratings.Skill], seq: int) -> bool:
    return await lane.ratings.apply(lane.epoch, match_id, after, seq=seq, now_s=lane.clock.now())
