"""Records as the messages players see. A player sees the seat token of their own ticket only."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.matchmaking import relay
from rallypoint.matchmaking.domain.ratings import Skill
from rallypoint.matchmaking.domain.tickets import Row, State
from rallypoint.matchmaking.domain.waits import Progress
from rallypoint.matchmaking.ticket_store import Standing
from rallypoint.v1 import matchmaking_pb2 as v1


def ticket(queue: str, standing: Standing) -> v1.Ticket:
    """A ticket."""
    record, row = standing.record, standing.row
    view = v1.Ticket(
        ticket_id=record.ticket_id,
        queue=queue,
        state=relay.STATES[row.state],
        seq=row.seq,
        search_start_time=_timestamp(record.search_start_ms),
        expire_time=_timestamp(record.expire_ms),
    )
    if row.state is State.ASSIGNED and standing.match is not None:
        view.assignment.CopyFrom(assignment(record.ticket_id, standing.match))
    return view


def assignment(ticket_id: str, match: pb.MatchRecord) -> v1.Assignment:
    """Where the holder of a ticket plays."""
    tokens = dict(zip(match.ticket_ids, match.seat_tokens, strict=False))
    return v1.Assignment(
        room_id=match.room_id or match.match_id,
        seat_token=tokens.get(ticket_id, b""),
        players=match.players,
    )


def rating(skill: Skill) -> v1.Rating:
    """A rating."""
    return v1.Rating(
        mu=skill.mu,
        sigma=skill.sigma,
        display=skill.display,
        matches=skill.matches,
        last_match_id=skill.last_match_id,
        last_change=skill.last_change,
    )


def progress(shown: Progress) -> v1.QueueProgress:
    """The numbers of a search."""
    return v1.QueueProgress(
        position=shown.position,
        searching=shown.searching,
        estimated_wait=duration(shown.estimated_wait_s),
        rating_range=shown.rating_range,
        needed=shown.needed,
    )


def duration(seconds: float | None) -> Duration | None:
    """A duration; None stays absent."""
    if seconds is None:
        return None
    message = Duration()
    message.FromMilliseconds(round(seconds * 1000))
    return message


def event(ticket_id: str, row: Row, match: pb.MatchRecord | None) -> v1.WatchTicketResponse:
    """What a ticket came to, except a plain place in the queue (see `progress`)."""
    response = v1.WatchTicketResponse(seq=row.seq)
    match row.state:
        case State.QUEUED:
            response.requeued.reason = row.reason
        case State.PROPOSED:
            response.proposed.match_id = row.match_id
            response.proposed.players.extend(match.players if match else ())
        case State.ASSIGNED:
            place = assignment(ticket_id, match) if match else v1.Assignment(room_id=row.match_id)
            response.assigned.CopyFrom(place)
        case State.CANCELLED | State.EXPIRED:
            response.ended.state = relay.STATES[row.state]
    return response


def _timestamp(milliseconds: int) -> Timestamp:
    message = Timestamp()
    message.FromMilliseconds(milliseconds)
    return message
