"""Assignment: a room for every committed match, or its tickets back in the queue, first in line.

Allocate is asked with request_id = match_id, so a retry, by this leader or the next, gets the same
room with fresh seat tokens. It is retried with back-off for `allocate_patience_s`; after that, or
when fleet says that no retry can help, the match is dissolved and the queue pauses a moment (a
failing fleet must not see the same tickets again and again without end). A match for a room that
wants players (`backfill`) gets its seat from that room's node instead.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from rallypoint.internal.v1 import (
    allocation_pb2,
    allocation_pb2_grpc,
    room_host_pb2,
    room_host_pb2_grpc,
)
from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, metrics, rpc, telemetry
from rallypoint.matchmaking import backfill
from rallypoint.matchmaking.config import MatchmakingSettings
from rallypoint.matchmaking.domain.queues import Recording
from rallypoint.matchmaking.lane import Lane

logger = logging.getLogger(__name__)

REASON = "ROOM_UNAVAILABLE"
BACKOFF_S = 0.1
BACKOFF_MAX_S = 1.6
FILL_PAUSES_S = (0.2, 0.6)
Seats = Sequence[allocation_pb2.SeatGrant]
_RETRYABLE = (
    errors.Unavailable,
    errors.ResourceExhausted,
    errors.DeadlineExceeded,
    errors.Aborted,
    errors.Internal,
)


class Assigner:
    """Asks fleet for rooms, for all queues; at most `allocate_parallel` calls at a time."""

    def __init__(
        self, fleet: allocation_pb2_grpc.AllocationServiceAsyncStub, settings: MatchmakingSettings
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.allocate_parallel)

    async def assign(self, lane: Lane, match: pb.MatchRecord) -> None:
        """See one match through. Raises `ticket_store.Fenced` or StoreUnavailable: then it is
        neither assigned nor dissolved, and the next takeover resumes it."""
        lane.assigning += 1
        try:
            with telemetry.span(
                "assign match",
                parent=_carrier(match.traceparents[:1]),
                links=[{"traceparent": trace} for trace in match.traceparents[1:]],
                attributes={"match_id": match.match_id, "queue": lane.config.queue},
            ):
                async with self._slots:
                    seats, epoch = await (
                        self._fill(lane, match) if match.room_id else self._allocate(lane, match)
                    )
                await (
                    self._dissolve(lane, match) if not seats else _seat(lane, match, seats, epoch)
                )
        finally:
            lane.assigning -= 1

    async def _allocate(self, lane: Lane, match: pb.MatchRecord) -> tuple[Seats, int]:
        """The seats in a room and its epoch; no seats when none could be had in time."""
        started, backoff_s = lane.clock.monotonic(), BACKOFF_S
        request = _request(lane, match)
        while True:
            try:
                reply = await self._ask(request)
            except errors.RallypointError as error:
                metrics.MM_ALLOCATIONS.labels(lane.config.queue, error.reason).inc()
                wait_s = max(error.retry_after_s or 0.0, backoff_s * (0.5 + random.random()))
                over = (
                    lane.clock.monotonic() + wait_s - started > self._settings.allocate_patience_s
                )
                if over or not isinstance(error, _RETRYABLE):
                    logger.warning(
                        "allocate_failed",
                        extra={"match_id": match.match_id, "reason": error.reason},
                    )
                    return (), 0
                await asyncio.sleep(wait_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            else:
                metrics.MM_ALLOCATIONS.labels(lane.config.queue, "OK").inc()
                return reply.seats, reply.epoch

    async def _fill(self, lane: Lane, match: pb.MatchRecord) -> tuple[Seats, int]:
        """The player's seat in a room that runs; none when the room does not give it."""
        try:
            seats = await self._added(match)
        except errors.RallypointError as error:
            metrics.MM_BACKFILLS.labels(lane.config.queue, error.reason).inc()
            logger.info("backfill_failed", extra={"room": match.room_id, "reason": error.reason})
            backfill.refused(lane, match, error)
            return (), 0
        metrics.MM_BACKFILLS.labels(lane.config.queue, "OK").inc()
        if (wish := lane.wishes.get(match.room_id)) is not None:
            wish.came(match.ticket_ids[0])
        return seats, 0

    async def _added(self, match: pb.MatchRecord) -> Seats:
        """Have the room's node seat a match's players; again when it is in doubt whether it did."""
        request = room_host_pb2.AddPlayersRequest(
            room_id=match.room_id, players=_seat_requests(match), backfill=True
        )
        async with rpc.channel(match.address, name="matchmaking") as channel:
            stub: Any = room_host_pb2_grpc.RoomHostServiceStub(channel)
            for pause_s in (*FILL_PAUSES_S, None):
                try:
                    async with rpc.calling():
                        reply = await stub.AddPlayers(
                            request, timeout=self._settings.allocate_timeout_s
                        )
                    seats: Seats = reply.seats
                    return seats
                except (errors.Unavailable, errors.DeadlineExceeded):
                    if pause_s is None:
                        raise
                    await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _ask(
        self, request: allocation_pb2.AllocateRequest
    ) -> allocation_pb2.AllocateResponse:
        async with rpc.calling():
            reply = await self._fleet.Allocate(request, timeout=self._settings.allocate_timeout_s)
        missing = {p.player_id for p in request.players} - {s.player_id for s in reply.seats}
        if missing:
            raise errors.Internal("SEATS_MISSING", f"Allocate seated nobody for {sorted(missing)}")
        return reply

    async def _dissolve(self, lane: Lane, match: pb.MatchRecord) -> None:
        changes = await lane.tickets.requeue(
            lane.epoch, match, REASON, now_ms=int(lane.clock.now() * 1000)
        )
        if not match.room_id:
            lane.pace.failed(lane.clock.monotonic())
        for record, row in await lane.tickets.queued([ticket_id for ticket_id, _ in changes]):
            lane.enter(record, row)
        lane.tell(changes)
        for start_ms in match.search_starts_ms:
            lane.ended("requeued", lane.clock.now() - start_ms / 1000)


async def _seat(lane: Lane, match: pb.MatchRecord, seats: Seats, epoch: int) -> None:
    tokens = {seat.player_id: seat.seat_token for seat in seats}
    seated = pb.MatchRecord()
    seated.CopyFrom(match)
    seated.room_epoch = epoch
    seated.seat_tokens.extend(tokens[player.player_id] for player in match.players)
    now = lane.clock.now()
    changes = await lane.tickets.assign(lane.epoch, seated, now_ms=int(now * 1000))
    lane.pace.succeeded()
    if changes is None:
        logger.warning("match_gone", extra={"match_id": match.match_id})
        return
    lane.tell(changes, seated)
    for start_ms in match.search_starts_ms:
        lane.ended("assigned", now - start_ms / 1000)


def _carrier(traceparents: list[str]) -> Mapping[str, str] | None:
    return {"traceparent": traceparents[0]} if traceparents else None


def _recording(recording: Recording | None) -> allocation_pb2.Recording | None:
    if recording is None:
        return None
    return allocation_pb2.Recording(
        max_bytes=recording.max_bytes,
        spectators=recording.spectators,
        spectate_delay_ms=round(recording.spectate_delay_s * 1000),
    )


def _request(lane: Lane, match: pb.MatchRecord) -> allocation_pb2.AllocateRequest:
    return allocation_pb2.AllocateRequest(
        request_id=match.match_id,
        set=lane.config.set,
        game=lane.config.game,
        queue=lane.config.queue,
        players=_seat_requests(match),
        options=lane.config.options,
        recording=_recording(lane.config.recording),
    )


def _seat_requests(match: pb.MatchRecord) -> list[allocation_pb2.SeatRequest]:
    return [
        allocation_pb2.SeatRequest(
            player_id=player.player_id, display_name=player.display_name, team=player.team
        )
        for player in match.players
    ]
