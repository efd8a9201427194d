"""RoomService at the edge: seats, streams, inputs, commands.

Join holds a client's stream; frames reach it through `rooms_node` without passing here. SendInput
is the second hot path (`rooms_inputs`): inputs in their plain form do not pass here either. A token
of a stream at another gateway works as well: its room's node is looked up once and this gateway's
own Attach carries the inputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rallypoint.gateway import calls, limits
from rallypoint.gateway.domain import frames, tokens
from rallypoint.gateway.domain.inputs import MAX_INPUT_BYTES, MAX_INPUTS
from rallypoint.gateway.rooms_board import Board, away
from rallypoint.gateway.rooms_inputs import Grip, PlainInputs
from rallypoint.gateway.rooms_node import ROOM_MOVING
from rallypoint.gateway.rooms_registry import Registry
from rallypoint.gateway.rooms_stream import Room, Stream, control
from rallypoint.gateway.tokens import Session
from rallypoint.internal.v1.room_host_pb2 import ClientMessage, SeatRef
from rallypoint.kit import errors, metrics, names, telemetry
from rallypoint.kit.clock import Clock
from rallypoint.v1 import room_pb2

SERVICE = "/rallypoint.v1.RoomService/"
MAX_MESSAGE_BYTES = 4096
MAX_SEAT_TOKENS = 4
MOVING_RETRY_S = 0.02
_DONE = b""


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """RoomService's times and bounds."""

    join_timeout_s: float = 5.0
    """How long a join waits for its node."""
    message_timeout_s: float = 5.0
    """The longest a command waits for the game's answer; the call's own deadline if sooner."""
    stream_token_life_s: float = 7200.0
    """How long a stream token works; longer than any stream lives."""
    grips_max: int = 50_000
    """Stream tokens kept verified."""
    streams_per_player: int = 4
    """Open streams of one player at this gateway, those of dead connections included."""


class RoomApi:
    """The handlers of RoomService."""

    def __init__(
        self,
        board: Board,
        registry: Registry,
        streams: limits.StreamLimit,
        *,
        clock: Clock,
        cluster_key: bytes,
        settings: RoomSettings,
    ) -> None:
        self._board = board
        self._registry = registry
        self._streams = streams
        self._clock = clock
        self._key = cluster_key
        self._settings = settings
        self._grips: dict[bytes, Grip] = {}
        self._now: Callable[[], float] = clock.now
        self.plain = PlainInputs(board, self._grips, now_s=clock.now)

    def methods(self) -> list[calls.Method]:
        """What the edges serve."""
        return [
            calls.StreamMethod(
                SERVICE + "Join",
                room_pb2.JoinRequest,
                room_pb2.JoinResponse,
                self.join,
                farewell=control(room_pb2.CONTROL_KIND_RECONNECT, "GATEWAY"),
            ),
            calls.UnaryMethod(
                SERVICE + "SendInput",
                room_pb2.SendInputRequest,
                room_pb2.SendInputResponse,
                self.send_input,
                max_bytes=calls.INPUT_MAX_BYTES,
                express=self.plain,
            ),
            calls.UnaryMethod(
                SERVICE + "SendMessage",
                room_pb2.SendMessageRequest,
                room_pb2.SendMessageResponse,
                self.send_message,
            ),
            calls.UnaryMethod(
                SERVICE + "Leave", room_pb2.LeaveRequest, room_pb2.LeaveResponse, self.leave
            ),
        ]

    def stream_token(self, stream: Stream) -> bytes:
        """The token of a stream that was just given its seat."""
        claims = tokens.StreamClaims(
            room_id=stream.room.room_id,
            slot=stream.seat_slot,
            generation=stream.generation,
            player_id=stream.player_id,
            expires_s=int(self._now() + self._settings.stream_token_life_s),
        )
        return tokens.seal(self._key, claims)

    # --- Join ---

    async def join(
        self, call: calls.Call, request: room_pb2.JoinRequest, outlet: calls.Outlet
    ) -> None:
        """Take the seat, then hold the stream until somebody ends it."""
        session: Session = call.session
        names.check_id(request.room_id, "room_id")
        if not 0 < len(request.seat_tokens) <= MAX_SEAT_TOKENS:
            raise errors.InvalidArgument("SEAT_TOKENS", "offer one to four seat tokens")
        with self._streams.held(session.player_id):
            stream = await self._open(session, request, outlet)
            try:
                await outlet.wait_closed()
            finally:
                self._part(stream)

    async def _open(
        self, session: Session, request: room_pb2.JoinRequest, outlet: calls.Outlet
    ) -> Stream:
        """A welcomed stream; one span and one outcome however it ends."""
        outcome = "CANCELLED"
        attributes = {"rallypoint.room": request.room_id}
        try:
            with telemetry.span("rooms.join", attributes=attributes):
                stream = await self._take_seat(session, request, outlet)
            outcome = "OK"
            return stream
        except errors.RallypointError as refusal:
            outcome = refusal.reason
            raise
        finally:
            metrics.GATEWAY_JOINS.labels(outcome).inc()

    async def _take_seat(
        self, session: Session, request: room_pb2.JoinRequest, outlet: calls.Outlet
    ) -> Stream:
        room = await self._registry.find(request.room_id)
        known_epoch = room.placed_epoch
        try:
            return await self._ask(room, session, request, outlet)
        except errors.NotFound:
            # What we know of the room may be old; the record decides.
            room = await self._registry.find(request.room_id, fresh=True)
            if room.placed_epoch <= known_epoch:
                raise
            return await self._ask(room, session, request, outlet)

    async def _ask(
        self,
        room: Room,
        session: Session,
        request: room_pb2.JoinRequest,
        outlet: calls.Outlet,
    ) -> Stream:
        stream = Stream(
            client=next(self._board.clients),
            room=room,
            outlet=outlet,
            player_id=session.player_id,
            seat_tokens=tuple(request.seat_tokens),
            schema_hash=request.schema_hash,
            token_expires_s=session.expires_s,
            joined=asyncio.get_running_loop().create_future(),
            attempt=(request.client_id, request.attempt),
        )
        self._board.add(stream)
        if room.node is not None:
            ask = room.node.join if room.hold is None else room.node.put_off
            ask(stream)
        try:
            async with asyncio.timeout(self._settings.join_timeout_s):
                await stream.joined
        except TimeoutError:
            self._part(stream)
            raise away() from None
        except BaseException:
            self._part(stream)
            raise
        return stream

    def _part(self, stream: Stream) -> None:
        """The stream is over: tell its node, unless the node said so, and forget it."""
        if stream.room.node is not None:
            stream.room.node.leave(stream)
        self._board.remove(stream)

    # --- SendInput ---

    def send_input(
        self, call: calls.Call, request: room_pb2.SendInputRequest
    ) -> bytes | Awaitable[bytes]:
        """Pass inputs on; answers at once, except for the first call with a token."""
        grip = self._grips.get(request.stream_token)
        if grip is None or grip.room.node is None:
            return self._send_first_input(call, request)
        return self._pass_on(grip, call, request)

    async def _send_first_input(
        self, call: calls.Call, request: room_pb2.SendInputRequest
    ) -> bytes:
        grip = await self._grip(request.stream_token)
        return self._pass_on(grip, call, request)

    def _pass_on(self, grip: Grip, call: calls.Call, request: room_pb2.SendInputRequest) -> bytes:
        self._check(grip, call)
        inputs = request.inputs
        if len(inputs) > MAX_INPUTS or (inputs and max(map(len, inputs)) > MAX_INPUT_BYTES):
            raise errors.InvalidArgument("INPUTS_INVALID", "at most 8 inputs of at most 64 bytes")
        # ClientInput and SendInputRequest number ack_tick, first_seq and inputs alike; what else
        # the client sent must not reach the node as a field of ours.
        request.ClearField("stream_token")
        request.DiscardUnknownFields()
        self.plain.forward(grip, request.SerializeToString(), now=self._board.clock())
        return _DONE

    def _check(self, grip: Grip, call: calls.Call) -> None:
        if not grip.serves(call.session, self._now()):
            raise tokens.refused()

    async def _grip(self, token: bytes) -> Grip:
        """The grip of a token, verified and with a room that has a node."""
        claims = tokens.unseal(self._key, token, now_s=self._now())
        room = await self._registry.find(claims.room_id)
        seat = SeatRef(room_id=claims.room_id, slot=claims.slot, generation=claims.generation)
        encoded = seat.SerializeToString()
        grip = Grip(
            room=room,
            player_id=claims.player_id,
            expires_s=claims.expires_s,
            seat=seat,
            seat_field=b"\x0a" + frames.varint(len(encoded)) + encoded,
        )
        if len(self._grips) >= self._settings.grips_max:
            del self._grips[next(iter(self._grips))]
        self._grips[token] = grip
        return grip

    async def _held(self, call: calls.Call, token: bytes) -> Grip:
        grip = self._grips.get(token)
        if grip is None or grip.room.node is None:
            grip = await self._grip(token)
        self._check(grip, call)
        return grip

    # --- SendMessage and Leave ---

    async def send_message(
        self, call: calls.Call, request: room_pb2.SendMessageRequest
    ) -> room_pb2.SendMessageResponse:
        """Deliver a command and answer with the game's reply."""
        if len(request.body) > MAX_MESSAGE_BYTES or request.request_id == 0:
            raise errors.InvalidArgument("MESSAGE_INVALID", "4 KiB at most, request_id from 1")
        grip = await self._held(call, request.stream_token)
        message = ClientMessage(
            seat=grip.seat, request_id=request.request_id, type=request.type, body=request.body
        )
        left_s = call.deadline - self._board.clock()
        timeout_s = max(0.0, min(self._settings.message_timeout_s, left_s))
        try:
            async with asyncio.timeout(timeout_s):
                return room_pb2.SendMessageResponse(body=await self._delivered(grip.room, message))
        except TimeoutError:
            raise errors.DeadlineExceeded("MESSAGE_UNANSWERED", "the game gave no answer") from None

    async def _delivered(self, room: Room, message: ClientMessage) -> bytes:
        """The game's answer. What a moving room did not take is asked again at its next node."""
        while True:
            await room.settled()
            if room.node is None:
                raise away()
            known_epoch = room.placed_epoch
            try:
                return await room.node.message(message)
            except errors.NotFound:
                # What a gateway without a stream there knows of a room may be old.
                room = await self._registry.find(room.room_id, fresh=True)
                if room.placed_epoch <= known_epoch:
                    raise
            except errors.Unavailable as refusal:
                if refusal.reason != ROOM_MOVING:
                    raise
                await asyncio.sleep(MOVING_RETRY_S)
                if room.hold is None:  # we have missed where it went
                    room = await self._registry.find(room.room_id, fresh=True)

    async def leave(
        self, call: calls.Call, request: room_pb2.LeaveRequest
    ) -> room_pb2.LeaveResponse:
        """Give the seat up for good; the node ends its stream."""
        grip = await self._held(call, request.stream_token)
        await grip.room.settled()
        if grip.room.node is None:
            raise away()
        grip.room.node.give_seat_up(grip.seat)
        return room_pb2.LeaveResponse()
