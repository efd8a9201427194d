"""MatchmakingService: the calls of players, already authenticated by the gateway.

Every process answers every call; only Redis is needed. The caller's identity comes from metadata
the gateway sets (`kit.rpc.caller`), ratings from the store, never from a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, names, rpc, telemetry
from rallypoint.matchmaking import attention, checks, views, watch
from rallypoint.matchmaking.domain import tickets
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.ticket_store import Standing
from rallypoint.v1 import matchmaking_pb2 as v1
from rallypoint.v1 import matchmaking_pb2_grpc as v1_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class MatchmakingService(v1_grpc.MatchmakingServiceServicer):
    """The servicer; `lanes` by queue name."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = lanes

    async def CreateTicket(
        self, request: v1.CreateTicketRequest, context: Context
    ) -> v1.CreateTicketResponse:
        """Enter a queue."""
        caller = rpc.caller(context)
        names.check_id(caller.player_id, "player_id")
        checks.create(request)
        lane = self._lane(request.queue)
        record = await _record(lane, caller, request)
        made = await lane.tickets.create(record)
        if made.outcome == "EXISTS":
            with contextlib.suppress(errors.NotFound):  # forgotten in between
                await _attended(lane, made.ticket_id, caller.player_id)
            raise errors.AlreadyExists(
                "TICKET_EXISTS",
                "you have a live ticket in this queue",
                metadata={"ticket_id": made.ticket_id},
            )
        standing = Standing(record, made.row, None)
        if made.outcome == "MADE":
            lane.enter(record, made.row)
        else:
            standing = await _attended(lane, made.ticket_id, caller.player_id)
        return v1.CreateTicketResponse(ticket=views.ticket(lane.config.queue, standing))

    async def GetTicket(
        self, request: v1.GetTicketRequest, context: Context
    ) -> v1.GetTicketResponse:
        """Read one's own ticket."""
        caller, lane = rpc.caller(context), self._lane(request.queue)
        ticket_id = request.ticket_id or await lane.tickets.of_player(caller.player_id)
        if ticket_id is None:
            raise errors.NotFound("TICKET_UNKNOWN", "you have no ticket in this queue")
        checks.ticket_id(ticket_id)
        standing = await _attended(lane, ticket_id, caller.player_id)
        return v1.GetTicketResponse(ticket=views.ticket(lane.config.queue, standing))

    async def CancelTicket(
        self, request: v1.CancelTicketRequest, context: Context
    ) -> v1.CancelTicketResponse:
        """Leave the queue."""
        caller, lane = rpc.caller(context), self._lane(request.queue)
        checks.ticket_id(request.ticket_id)
        now = lane.clock.now()
        outcome, row = await lane.tickets.cancel(
            request.ticket_id, caller.player_id, now_ms=int(now * 1000)
        )
        if outcome == "MATCHED":
            raise errors.FailedPrecondition("TICKET_MATCHED", "a match already holds the ticket")
        if outcome == "CANCELLED" and row is not None:
            lane.tell([(request.ticket_id, row)])
        standing = await watch.owned(lane, request.ticket_id, caller.player_id)
        if outcome == "CANCELLED":
            lane.ended("cancelled", now - standing.record.search_start_ms / 1000)
        return v1.CancelTicketResponse(ticket=views.ticket(lane.config.queue, standing))

    async def WatchTicket(
        self, request: v1.WatchTicketRequest, context: Context
    ) -> AsyncIterator[v1.WatchTicketResponse]:
        """Stream what happens to one's ticket."""
        caller, lane = rpc.caller(context), self._lane(request.queue)
        checks.ticket_id(request.ticket_id)
        stream = watch.Watch(lane, request.ticket_id, request.after_seq, lane.closing)
        async for response in stream.events(caller.player_id):
            yield response

    async def ListQueues(
        self, request: v1.ListQueuesRequest, context: Context
    ) -> v1.ListQueuesResponse:
        """Tell the queues."""
        return v1.ListQueuesResponse(
            queues=[
                v1.Queue(
                    queue=name,
                    game=lane.config.game,
                    min_players=lane.config.min_players,
                    max_players=lane.config.max_players,
                    searching=await lane.searching(),
                    typical_wait=views.duration(lane.waits.typical_s()),
                )
                for name, lane in sorted(self._lanes.items())
            ]
        )

    async def GetRating(
        self, request: v1.GetRatingRequest, context: Context
    ) -> v1.GetRatingResponse:
        """Read one's own rating."""
        caller, lane = rpc.caller(context), self._lane(request.queue)
        skill = await lane.ratings.read(caller.player_id)
        return v1.GetRatingResponse(rating=views.rating(skill))

    def _lane(self, queue: str) -> Lane:
        names.check_name(queue, "queue")
        lane = self._lanes.get(queue)
        if lane is None:
            raise errors.NotFound("QUEUE_UNKNOWN", f"there is no queue {queue}")
        return lane


async def _attended(lane: Lane, ticket_id: str, player_id: str) -> Standing:
    """A player's own ticket, which they attend to by asking."""
    standing = await watch.owned(lane, ticket_id, player_id)
    await attention.attend_one(lane, standing)
    return standing


async def _record(
    lane: Lane, caller: rpc.Caller, request: v1.CreateTicketRequest
) -> pb.TicketRecord:
    skill = await lane.ratings.read(caller.player_id)
    now_ms = int(lane.clock.now() * 1000)
    return pb.TicketRecord(
        ticket_id=tickets.ticket_id(lane.config.queue, caller.player_id, request.request_id),
        player_id=caller.player_id,
        display_name=caller.display_name,
        search_fields=request.search_fields,
        search_start_ms=now_ms,
        expire_ms=now_ms + int(lane.config.ticket_ttl_s * 1000),
        mu=skill.mu,
        sigma=skill.sigma,
        traceparent=telemetry.inject({}).get("traceparent", ""),
    )
