"""Playing: one seat held through broken streams, inputs up, frames down.

    async with RoomConnection(session, assignment.room_id, assignment.seat_token) as room:
        await room.wait_joined()
        room.send_input({"move_x": 1.0})
        ended = await room.wait_ended()

`on_step` is called from the network callback with every frame, so it must be quick. A stream that
is silent for 2 s, breaks, or cannot be followed is joined again, with back-off and all seat tokens,
until the server says that there is no such seat or room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self

from rallypoint.client import channel as channels
from rallypoint.client import retry, seat, websocket
from rallypoint.client.session import Session
from rallypoint.games import codec
from rallypoint.kit import errors, waiting
from rallypoint.v1 import room_pb2

SERVICE = "/rallypoint.v1.RoomService"
SILENCE_S = 2.0
FIRST_ANSWER_S = 5.0
CHECK_S = 0.5
INPUTS_IN_FLIGHT = 2

Step = Callable[["RoomConnection", seat.Stepped], None]
FINAL = (errors.NotFound, errors.PermissionDenied, errors.FailedPrecondition)


def nothing(_: RoomConnection, __: seat.Stepped) -> None:
    """Nobody wants the frames."""


class RoomConnection:
    """One's seat in a room. An async context manager; leaving it keeps the seat for a while."""

    def __init__(
        self,
        session: Session,
        room_id: str,
        seat_token: bytes,
        *,
        on_step: Step = nothing,
        on_control: Callable[[room_pb2.Control], None] = lambda _: None,
        only: Collection[str] | None = None,
        glance: seat.Glance | None = None,
        next_request_id: int = 1,
    ) -> None:
        """`next_request_id` goes on where an earlier connection to the same seat stopped."""
        self.seat = seat.Seat(room_id, seat_token, only=only, glance=glance)
        self.welcome: room_pb2.Welcome | None = None
        self.ended: seat.Ended | None = None
        self.joins = 0
        """Streams that were let in; tries that met nobody are in `breaks`."""
        self.input_errors = 0
        self.breaks: list[str] = []
        self._session = session
        self._on_step = on_step
        self._on_control = on_control
        self._joined = asyncio.Event()
        self._over = asyncio.Event()
        self._failure: errors.RallypointError | None = None
        self._backoff = retry.Backoff()
        self._listener: _Listener | None = None
        self._in_flight = 0
        self._view_tick = 0.0
        """The moment that the newest input was made for."""
        self.next_request_id = next_request_id
        self._open = contextlib.AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._group = await self._open.enter_async_context(asyncio.TaskGroup())
        self._runner = self._group.create_task(self._run(), name=f"room-{self.seat.room_id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            self._runner.cancel()
        await self._open.__aexit__(None, None, None)

    # -- waiting

    async def wait_joined(self, *, within_s: float = 10.0) -> room_pb2.Welcome:
        """Wait for the first keyframe; raises what the server refused the seat with."""
        try:
            async with asyncio.timeout(within_s):
                await self._joined.wait()
        except TimeoutError as error:
            raise errors.DeadlineExceeded("JOIN_TOO_SLOW", "no keyframe in time") from error
        if self.welcome is None or (self._failure is not None and self.seat.tick == 0):
            raise self._failure or errors.Unavailable("NOT_JOINED", "the room ended first")
        return self.welcome

    async def wait_ended(self) -> seat.Ended:
        """Wait until the room closes or the seat is taken; raises when the seat is lost."""
        await self._over.wait()
        if self.ended is None:
            raise self._failure or errors.Unavailable("STREAM_ENDED", "the stream ended")
        return self.ended

    # -- up

    def send_input(self, values: Mapping[str, float], *, view_tick: float = 0) -> int:
        """Send one input by its columns' names, with all unacknowledged ones; its seq.

        For games that judge by what a player saw, `view_tick` is that moment: a tick with its
        fraction; `seat.tick` for who goes by the newest tables.
        """
        if self.seat.schema is None:
            raise errors.FailedPrecondition("NOT_JOINED", "inputs need a schema: join first")
        packed = codec.pack_input(self.seat.schema.input, values)
        return self.send_packed(packed, view_tick=view_tick)

    def send_packed(self, packed: bytes, *, view_tick: float = 0) -> int:
        """Send one packed input. With two calls in flight it waits for the next one to carry it."""
        self._view_tick = view_tick
        seq = self.seat.push_input(packed)
        if self._in_flight < INPUTS_IN_FLIGHT:
            self._flush()
        return seq

    async def send_message(self, kind: int, body: bytes, *, tries: int = 5) -> bytes:
        """Send one command and return the game's answer; retried under the same id."""
        request_id = self.next_request_id
        self.next_request_id += 1
        backoff = retry.Backoff()
        for attempt in range(tries):
            try:
                return await self._send_once(request_id, kind, body)
            except (errors.Unavailable, errors.DeadlineExceeded) as error:
                if attempt == tries - 1:
                    raise
                await backoff.pause(error.retry_after_s)
        raise AssertionError("unreachable")

    async def leave(self) -> None:
        """Give up the seat for good."""
        request = room_pb2.LeaveRequest(stream_token=self.seat.stream_token)
        await self._call("Leave", request.SerializeToString())

    async def _send_once(self, request_id: int, kind: int, body: bytes) -> bytes:
        request = room_pb2.SendMessageRequest(
            stream_token=self.seat.stream_token, request_id=request_id, type=kind, body=body
        )
        answer = await self._call("SendMessage", request.SerializeToString())
        return channels.decoded(answer, room_pb2.SendMessageResponse).body

    async def _call(self, method: str, request: bytes) -> bytes:
        token = await self._session.token()
        return await self._session.channel.unary(f"{SERVICE}/{method}", request, token=token)

    def _flush(self) -> None:
        request = self.seat.input_request(view_tick=self._view_tick)
        if request is None:
            return
        channel, path = self._session.channel, f"{SERVICE}/SendInput"
        token = self._session.access_token
        if isinstance(channel, websocket.WebSocketChannel) and channel.say(
            path, request, token=token, failed=self._input_failed
        ):
            return
        self._in_flight += 1
        if isinstance(channel, channels.WebChannel) and channel.post(
            path, request, token=token, done=self._input_done
        ):
            return
        if self._group is not None:
            self._group.create_task(self._send_slowly(path, request), name="send-input")

    async def _send_slowly(self, path: str, request: bytes) -> None:
        try:
            token = await self._session.token()
            await self._session.channel.unary(path, request, token=token)
        except errors.RallypointError as error:
            self._input_done(b"", error)
        else:
            self._input_done(b"", None)

    def _input_done(self, _: bytes, error: errors.RallypointError | None) -> None:
        self._in_flight -= 1
        if error is not None:
            self.input_errors += 1

    def _input_failed(self, _: errors.RallypointError) -> None:
        self.input_errors += 1

    # -- down

    async def _run(self) -> None:
        """Hold the seat: one stream after the other until the room or the seat is over."""
        try:
            while self.ended is None:
                try:
                    await self._stream_once()
                except FINAL as error:
                    self._failure = error
                    return
                except errors.Aborted as error:
                    self._failure = error  # a newer stream of this seat, elsewhere
                    return
                except errors.RallypointError as error:
                    self._failure = error
                    self.breaks.append(str(error))
                    await self._backoff.pause(error.retry_after_s)
        finally:
            self._over.set()
            self._joined.set()

    async def _stream_once(self) -> None:
        listener = self._listener = _Listener(self)
        stream = await self._session.channel.stream(
            f"{SERVICE}/Join",
            self.seat.join_request(),
            listener=listener,
            token=await self._session.token(),
        )
        try:
            await self._follow(listener)
        finally:
            stream.close()

    async def _follow(self, listener: _Listener) -> None:
        """Wait for the stream's end, or for a silence that means the same."""
        waited_s = 0.0
        seen = listener.heard
        while not listener.over.is_set():
            if await waiting.happens(listener.over, CHECK_S):
                break
            waited_s = 0.0 if listener.heard != seen else waited_s + CHECK_S
            seen = listener.heard
            if waited_s >= (SILENCE_S if seen else FIRST_ANSWER_S):
                raise errors.Unavailable("STREAM_SILENT", f"nothing came for {waited_s:g} s")
        if listener.error is not None:
            raise listener.error
        if self.ended is None:
            raise errors.Unavailable("STREAM_ENDED", "the stream ended without a reason")

    def _happened(self, happening: seat.Happening) -> None:
        match happening:
            case seat.Stepped():
                if not self._joined.is_set():
                    self._joined.set()
                    self._backoff.reset()
                self._on_step(self, happening)
            case seat.Welcomed():
                self.joins += 1
                self.welcome = happening.welcome
                self._backoff.reset()
            case seat.Told():
                self._on_control(happening.control)
            case seat.Ended():
                self.ended = happening


class _Listener:
    """One stream's messages, until it is over."""

    def __init__(self, room: RoomConnection) -> None:
        self.heard = 0
        self.over = asyncio.Event()
        self.error: errors.RallypointError | None = None
        self._room = room

    def on_message(self, message: bytes) -> None:
        if self.over.is_set():
            return
        self.heard += 1
        try:
            happening = self._room.seat.receive(message)
        except seat.Resync as lost:
            self.on_end(errors.Unavailable("RESYNC", str(lost)))
            return
        if happening is not None:
            self._room._happened(happening)
            if self._room.ended is not None:
                self.on_end(None)

    def on_end(self, error: errors.RallypointError | None) -> None:
        self.error = self.error or error
        self.over.set()
