"""What clients of a room want: take a seat, leave it, send a message. Runs in the table's task."""

import math
from collections.abc import Iterable, Sequence

from rallypoint.games.definition import Definition
from rallypoint.games.engine import GameFailed, RoomTable
from rallypoint.games.room import Seat, SeatState
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.internal.v1.allocation_pb2 import SeatGrant, SeatRequest
from rallypoint.kit import errors
from rallypoint.room_state import schema_proto
from rallypoint.room_state.domain.replies import Reply, ReplyLog, mark_of
from rallypoint.room_state.domain.seats import Opened
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import HostedRoom, Stream
from rallypoint.room_state.still import ROOM_MOVING, Still
from rallypoint.v1 import room_pb2

MAX_BODY_BYTES = 4096


def join(table: RoomTable, room: HostedRoom, link: GatewayLink, request: host.ClientJoin) -> None:
    """Answer a join; on success the stream is fresh, and one it replaces is ended."""
    if link.closed:
        return
    if room.still is not None:
        if not room.still.wait(link, request):
            refuse_join(link, request.client, ROOM_MOVING)
        return
    try:
        opened = _opened(room, request)
    except errors.ClientFault as error:
        refuse_join(link, request.client, error)
        return
    offer = table.input_of(room.slot, opened.slot)
    stream = Stream(link, request.client, opened.slot, opened.generation, offer)
    replaced = room.seat(stream)
    if replaced is not None and (replaced.link, replaced.client) != (link, request.client):
        kick(replaced, "STREAM_REPLACED")
    before = table.seat_state(room.slot, opened.slot)
    if before is not SeatState.CONNECTED or not request.generation:
        table.join(room.slot, opened.slot)  # else the stream of before goes on, with its inputs
    if before is SeatState.RESERVED:
        room.observer.joined(room.identity, request.player_id)
    joined = host.ClientJoined(client=request.client, generation=opened.generation)
    joined.welcome.CopyFrom(_welcome(table, room, opened))
    link.say(host.AttachResponse(joined=[joined]))


def refuse_join(link: GatewayLink, client: int, error: errors.RallypointError) -> None:
    """Answer a join with an error."""
    joined = host.ClientJoined(client=client, code=int(error.code), reason=error.reason)
    link.say(host.AttachResponse(joined=[joined]))


def turn_away(still: Still | None) -> None:
    """Refuse the joins that waited for a room which does not come: it is to be looked for."""
    for link, request in still.joins if still is not None else ():
        refuse_join(link, request.client, errors.NotFound("ROOM_UNKNOWN", "no such room here"))


def admit(
    table: RoomTable, room: HostedRoom, request: host.AddPlayersRequest, now: float
) -> list[SeatGrant]:
    """Seat players who come later, all or none; who has a seat gets a fresh token of it.

    The room's wish for players of its queue is met with each of those who come for it.
    """
    players = request.players
    if room.ended is not None:
        raise errors.NotFound("ROOM_UNKNOWN", "the room has ended")
    if room.still is not None:
        raise ROOM_MOVING
    book, info = room.book, table.definition.info
    new = {player.player_id: player for player in players if book.held(player.player_id) is None}
    if new and not info.late_join:
        raise errors.FailedPrecondition("LATE_JOIN_OFF", "the game lets nobody in later")
    if new and room.state.locked:
        raise errors.FailedPrecondition("ROOM_LOCKED", "the room lets nobody in now")
    if request.backfill and len(new) > room.state.backfill:
        raise errors.ResourceExhausted("BACKFILL_OVER", "the room wants nobody more")
    for seat in _admitted(table, room, [*new.values()]):
        _seat(table, room, seat, now + info.reserve_s)
    room.state.backfill -= len(new) if request.backfill else 0
    held = [(player.player_id, book.held(player.player_id)) for player in players]
    return [
        SeatGrant(player_id=player_id, slot=slot, seat_token=book.grant(slot))
        for player_id, slot in held
        if slot is not None
    ]


def _admitted(table: RoomTable, room: HostedRoom, players: Sequence[SeatRequest]) -> list[Seat]:
    """The seats that players would get; raises when one of them is not let in."""
    slots = room.book.offered([player.player_id for player in players])
    wanted = [
        Seat(slot, player.player_id, player.display_name, team=slot)
        for slot, player in zip(slots, players, strict=True)
    ]
    try:
        return [table.admits(room.slot, seat) for seat in wanted]
    except GameFailed as failure:
        raise errors.Internal("GAME_ERROR", "the game could not let players in") from failure


def _seat(table: RoomTable, room: HostedRoom, wanted: Seat, reserve_until: float) -> None:
    seat = room.book.admit(
        wanted.player_id, wanted.display_name, team=wanted.team, reserve_until=reserve_until
    )
    room.replies.pop(seat.slot, None)
    room.attempts.pop(seat.slot, None)
    table.add_seat(room.slot, seat)
    if not table.definition.crowded:
        control = room_pb2.Control(kind=room_pb2.CONTROL_KIND_SEAT, seat=schema_proto.seat(seat))
        room.tell(control)


def drop(table: RoomTable, room: HostedRoom, stream: Stream, now: float) -> None:
    """A stream broke: its seat is kept for a while, unless a newer stream has it."""
    if room.streams.get(stream.slot) is not stream:
        return
    room.unseat(stream.slot)
    if room.ended is None and room.book.state(stream.slot) is SeatState.CONNECTED:
        room.book.drop(stream.slot, now)
        table.drop(room.slot, stream.slot)


def lose(table: RoomTable, room: HostedRoom, slot: int, now: float) -> None:
    """A player of a restored room did not come back with it."""
    if room.ended is None:
        room.unseat(slot)
        room.book.drop(slot, now)
        table.drop(room.slot, slot)


def leave(table: RoomTable, room: HostedRoom, slot: int, reason: str) -> None:
    """A seat is given up, by its player, by the clock or by the game."""
    stream = room.unseat(slot)
    if stream is not None:
        kick(stream, reason)
    if room.ended is not None or room.book.state(slot) is SeatState.LEFT:
        return
    room.book.leave(slot)
    room.observer.left(room.identity, room.book.player_id(slot), reason)
    table.leave(room.slot, slot, reason)
    if room.book.abandoned:
        table.close(room.slot, "ABANDONED")


def catch_up(table: RoomTable, room: HostedRoom, inputs: Iterable[host.ClientInput]) -> None:
    """Take inputs that waited while the room stood still; what it has already is dropped."""
    for item in inputs:
        slot = item.seat.slot
        if slot < table.definition.seats and room.book.generation(slot) == item.seat.generation:
            table.offer(room.slot, slot, item.first_seq, item.inputs)


def answer(
    table: RoomTable, room: HostedRoom, link: GatewayLink, message: host.ClientMessage
) -> None:
    """Have the game answer a message, once per request id."""
    if room.still is not None:
        send_reply(link, message.call, Reply(int(ROOM_MOVING.code), ROOM_MOVING.reason))
        return
    seat = message.seat
    try:
        if not room.current(seat.slot, seat.generation):
            raise errors.Aborted("STREAM_REPLACED", "a newer stream has the seat")
        log = room.replies.setdefault(seat.slot, ReplyLog())
        mark = mark_of(message.type, message.body)
        reply = log.known(message.request_id, mark)
        if reply is None:
            reply = _answered(table, room, message)
            log.keep(message.request_id, reply, mark=mark)
    except errors.ClientFault as error:
        reply = Reply(int(error.code), error.reason)
        send_reply(link, message.call, reply, retry_after_s=error.retry_after_s or 0.0)
        return
    send_reply(link, message.call, reply)


def send_reply(link: GatewayLink, call: int, reply: Reply, *, retry_after_s: float = 0.0) -> None:
    """Send an answer to the gateway that asked."""
    sent = host.MessageReply(
        call=call,
        code=reply.code,
        reason=reply.reason,
        body=reply.body,
        retry_after_ms=math.ceil(retry_after_s * 1000),
    )
    link.say(host.AttachResponse(replies=[sent]))


def kick(stream: Stream, reason: str) -> None:
    """End a client's stream with a reason."""
    ended = host.ClientKick(client=stream.client, reason=reason)
    stream.link.say(host.AttachResponse(kicks=[ended]))


def _opened(room: HostedRoom, request: host.ClientJoin) -> Opened:
    if room.ended is not None:
        raise errors.NotFound("ROOM_UNKNOWN", "the room has ended")
    if request.generation:
        return room.book.retake(request.slot, request.player_id, request.generation)
    _refuse_overtaken(room, request)
    opened = room.book.open(request.player_id, request.seat_tokens)
    room.attempts[opened.slot] = request.client_id, request.attempt
    return opened


def _refuse_overtaken(room: HostedRoom, request: host.ClientJoin) -> None:
    """A join that was held up must not end the stream that its client has opened since.

    One and the same may come twice: a gateway asks again over a new Attach stream.
    """
    slot = room.book.held(request.player_id)
    client_id, attempt = (0, 0) if slot is None else room.attempts.get(slot, (0, 0))
    if 0 < request.client_id == client_id and request.attempt < attempt:
        raise errors.Aborted("STREAM_REPLACED", "the same client has joined again since")


def _answered(table: RoomTable, room: HostedRoom, message: host.ClientMessage) -> Reply:
    if room.ended is not None:
        raise errors.NotFound("ROOM_UNKNOWN", "the room has ended")
    if len(message.body) > MAX_BODY_BYTES:
        raise errors.InvalidArgument("MESSAGE_TOO_LARGE", f"at most {MAX_BODY_BYTES} bytes")
    try:
        body = table.answer(room.slot, message.seat.slot, message.type, message.body)
    except errors.ResourceExhausted:
        raise  # nothing was done: the same request may come again
    except errors.ClientFault as error:
        return Reply(int(error.code), error.reason)
    except GameFailed:
        return Reply(int(errors.Code.INTERNAL), "GAME_ERROR")
    return Reply(body=body)


def _welcome(table: RoomTable, room: HostedRoom, opened: Opened) -> room_pb2.Welcome:
    definition: Definition = table.definition
    shown = (opened.slot,) if definition.crowded else range(definition.seats)
    return room_pb2.Welcome(
        room_id=room.identity.room_id,
        slot=opened.slot,
        seat_token=opened.token,
        epoch=room.identity.epoch,
        schema=schema_proto.of(definition.schema),
        tick_hz=definition.info.tick_hz,
        send_hz=definition.send_hz,
        input_hz=definition.input_hz,
        grace_ms=round(definition.info.grace_s * 1000),
        game=definition.info.name,
        seats=[schema_proto.seat(seat) for seat in room.book.seats() if seat.slot in shown],
        input_seq=table.applied_seq(room.slot, opened.slot) & 0xFFFFFFFF,
    )
