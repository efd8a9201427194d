"""MatchmakingService at the edge: every call goes on to the matchmaking service as it came.

The proto is the same inside, so answers pass as bytes. What this adds: who calls, from the
session (`rallypoint-player-id`, `rallypoint-display-name-bin`), the trace context, the deadline,
a heartbeat on WatchTicket every five seconds, and an honest UNAVAILABLE with RetryInfo while the
service is away. Client headers are never forwarded: a malformed `grpc-timeout` or `grpc-encoding`
of one client would break the shared HTTP/2 connection for all (edge.md 5b).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from rallypoint.gateway import calls, limits
from rallypoint.gateway.tokens import Session
from rallypoint.kit import errors, rpc, waiting
from rallypoint.v1 import matchmaking_pb2 as mm

SERVICE = "/rallypoint.v1.MatchmakingService/"
HEARTBEAT = b""
_UNARY: tuple[tuple[str, type[Message], type[Message]], ...] = (
    ("CreateTicket", mm.CreateTicketRequest, mm.CreateTicketResponse),
    ("GetTicket", mm.GetTicketRequest, mm.GetTicketResponse),
    ("CancelTicket", mm.CancelTicketRequest, mm.CancelTicketResponse),
    ("ListQueues", mm.ListQueuesRequest, mm.ListQueuesResponse),
    ("GetRating", mm.GetRatingRequest, mm.GetRatingResponse),
)


@dataclass(frozen=True, slots=True)
class MatchmakingSettings:
    """How the gateway talks to matchmaking."""

    heartbeat_s: float = 5.0
    """Silence on WatchTicket after which an empty message is sent."""
    retry_after_s: float = 1.0
    """What clients are told to wait while the service is away."""
    retries: int = 2
    """Further tries of a call that never reached the service."""


class MatchmakingApi:
    """The handlers of MatchmakingService."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        streams: limits.StreamLimit,
        *,
        clock: Callable[[], float],
        settings: MatchmakingSettings,
    ) -> None:
        self._channel = channel
        self._streams = streams
        self._clock = clock
        self._settings = settings
        self._watch: Any = channel.unary_stream(
            SERVICE + "WatchTicket", request_serializer=_serialize, response_deserializer=None
        )

    def methods(self) -> list[calls.Method]:
        """What the edges serve."""
        unary: list[calls.Method] = [
            calls.UnaryMethod(
                SERVICE + name,
                request,
                response,
                self._forward(name),
                rationed=name == "CreateTicket",
            )
            for name, request, response in _UNARY
        ]
        watch = calls.StreamMethod(
            SERVICE + "WatchTicket", mm.WatchTicketRequest, mm.WatchTicketResponse, self.watch
        )
        return [*unary, watch]

    def _forward(self, name: str) -> calls.UnaryHandler:
        """The handler that passes one method on."""
        ask: Any = self._channel.unary_unary(
            SERVICE + name, request_serializer=_serialize, response_deserializer=None
        )

        async def forward(call: calls.Call, request: Message) -> bytes:
            return await self._ask(ask, call, request)

        return forward

    async def _ask(self, ask: Any, call: calls.Call, request: Message) -> bytes:
        metadata = _identity(call.session)
        for attempt in range(self._settings.retries + 1):
            left_s = call.deadline - self._clock()
            try:
                answer: bytes = await ask(request, timeout=max(0.001, left_s), metadata=metadata)
                return answer
            except grpc.aio.AioRpcError as failure:
                # Only what was refused a connection is tried again: it cannot have been served.
                if attempt == self._settings.retries or not _unconnected(failure):
                    raise self._explain(failure) from failure
            await asyncio.sleep(min(0.1 * (attempt + 1), max(0.0, left_s)))
        raise AssertionError("the last attempt returns or raises")

    async def watch(
        self, call: calls.Call, request: mm.WatchTicketRequest, outlet: calls.Outlet
    ) -> None:
        """Pass on the events of a ticket, with heartbeats, until either side ends."""
        session: Session = call.session
        with self._streams.held(session.player_id):
            stream = self._watch(request, metadata=_identity(session))
            try:
                async with asyncio.TaskGroup() as tasks:
                    beat = _Heartbeat(outlet, self._settings.heartbeat_s)
                    task = tasks.create_task(beat.run(), name="watch-heartbeat")
                    async for event in stream:
                        beat.send(event)
                        await outlet.wait_writable()
                    task.cancel()
            except ExceptionGroup as failures:
                raise self._cause(failures) from failures
            finally:
                stream.cancel()

    def _cause(self, failures: ExceptionGroup[Any]) -> Exception:
        """The one error to report out of a group."""
        first: Any = failures
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        return self._explain(first) if isinstance(first, grpc.aio.AioRpcError) else first

    def _explain(self, failure: grpc.aio.AioRpcError) -> errors.RallypointError:
        """The service's own error as it is; an absent service as something to wait for."""
        error = rpc.to_error(failure)
        if error.code == errors.Code.UNAVAILABLE and error.retry_after_s is None:
            return errors.Unavailable(
                "MATCHMAKING_AWAY",
                "matchmaking cannot be reached now",
                retry_after_s=self._settings.retry_after_s,
            )
        return error


class _Heartbeat:
    """Sends an empty message when nothing else was sent for a while."""

    def __init__(self, outlet: calls.Outlet, period_s: float) -> None:
        self._outlet = outlet
        self._period_s = period_s
        self._sent = asyncio.Event()

    def send(self, message: bytes) -> None:
        """Send a message and start the wait anew."""
        self._outlet.send(message)
        self._sent.set()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        self._outlet.send(HEARTBEAT)
        while True:
            self._sent.clear()
            if not await waiting.happens(self._sent, self._period_s):
                self._outlet.send(HEARTBEAT)


def _identity(session: Session) -> list[tuple[str, str | bytes]]:
    """Who calls, as metadata for the inside."""
    return [
        (rpc.PLAYER_ID, session.player_id),
        (rpc.DISPLAY_NAME, session.display_name.encode()),
    ]


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unconnected(failure: grpc.aio.AioRpcError) -> bool:
    text = failure.details() or ""
    return failure.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in text
