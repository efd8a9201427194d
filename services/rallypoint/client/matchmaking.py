"""Tickets as a player uses them: create, watch, cancel; and one's rating."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from google.protobuf.message import Message

from rallypoint.client import channel as channels
from rallypoint.client import retry
from rallypoint.client.session import Session
from rallypoint.kit import errors, names
from rallypoint.v1 import matchmaking_pb2 as mm

SERVICE = "/rallypoint.v1.MatchmakingService"
TRIED_AGAIN = (errors.Unavailable, errors.DeadlineExceeded, errors.ResourceExhausted)


class TicketGone(errors.Aborted):
    """The ticket ended without a match: cancelled or expired."""


class Matchmaking:
    """The calls of MatchmakingService in the name of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(
        self, queue: str, *, request_id: str = "", fields: mm.SearchFields | None = None
    ) -> mm.Ticket:
        """Enter a queue; an own live ticket of before is returned instead of ALREADY_EXISTS."""
        request = mm.CreateTicketRequest(
            request_id=request_id or names.new_id(), queue=queue, search_fields=fields
        )
        try:
            answer = await self._call("CreateTicket", request, mm.CreateTicketResponse)
        except errors.AlreadyExists:
            return await self.get(queue)
        return answer.ticket

    async def get(self, queue: str, ticket_id: str = "") -> mm.Ticket:
        """One's ticket; without an id the live or last one of the queue."""
        request = mm.GetTicketRequest(queue=queue, ticket_id=ticket_id)
        return (await self._call("GetTicket", request, mm.GetTicketResponse)).ticket

    async def cancel(self, ticket: mm.Ticket) -> mm.Ticket:
        """Leave the queue."""
        request = mm.CancelTicketRequest(queue=ticket.queue, ticket_id=ticket.ticket_id)
        return (await self._call("CancelTicket", request, mm.CancelTicketResponse)).ticket

    async def rating(self, queue: str) -> mm.Rating:
        """One's rating in a queue."""
        request = mm.GetRatingRequest(queue=queue)
        return (await self._call("GetRating", request, mm.GetRatingResponse)).rating

    async def queues(self) -> list[mm.Queue]:
        """All queues."""
        answer = await self._call("ListQueues", mm.ListQueuesRequest(), mm.ListQueuesResponse)
        return list(answer.queues)

    async def watch(
        self, ticket: mm.Ticket, *, after_seq: int = 0
    ) -> AsyncGenerator[mm.WatchTicketResponse, None]:
        """What happens to a ticket, from one stream; heartbeats are left out."""
        request = mm.WatchTicketRequest(
            queue=ticket.queue, ticket_id=ticket.ticket_id, after_seq=after_seq
        )
        stream = channels.messages(
            self._session.channel,
            f"{SERVICE}/WatchTicket",
            request,
            answer=mm.WatchTicketResponse,
            token=await self._session.token(),
        )
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event.WhichOneof("event") is not None:
                    yield event

    async def find(self, queue: str) -> mm.Assignment:
        """Enter a queue and wait for a room, through broken streams; TicketGone if none comes."""
        request_id = names.new_id()  # the same for all tries: at most one ticket comes of it
        ticket: mm.Ticket | None = None
        backoff = retry.Backoff()
        while True:
            try:
                ticket = ticket or await self.create(queue, request_id=request_id)
                return await self.wait_assigned(ticket)
            except TRIED_AGAIN as error:
                await backoff.pause(error.retry_after_s)

    async def wait_assigned(self, ticket: mm.Ticket) -> mm.Assignment:
        """Watch one stream until a room is ready."""
        async with contextlib.aclosing(self.watch(ticket)) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "assigned":
                        return event.assigned
                    case "ended":
                        state = mm.TicketState.Name(event.ended.state)
                        raise TicketGone(state.removeprefix("TICKET_STATE_"))
        raise errors.Unavailable("STREAM_ENDED", "the ticket's stream ended early")

    async def _call(
        self, method: str, request: Message, answer: type[channels.Answer]
    ) -> channels.Answer:
        return await channels.call(
            self._session.channel,
            f"{SERVICE}/{method}",
            request,
            answer=answer,
            token=await self._session.token(),
        )
