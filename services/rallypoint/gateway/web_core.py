"""What every connection of the web edge shares, and the bytes of an answer's end."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from rallypoint.gateway import calls, calls_faults
from rallypoint.gateway.calls_stream import StreamCore
from rallypoint.gateway.domain import grpcweb, http_response
from rallypoint.gateway.domain.http_request import Refusal
from rallypoint.gateway.web_drain import InputDrain
from rallypoint.gateway.web_plan import Planner, RpcPlan
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors, metrics

Details = Callable[[errors.RallypointError], bytes]
"""Encodes an error as google.rpc.Status: `kit.status.to_details` but for tests."""


class Held(Protocol):
    """A connection that the edge keeps count of."""

    peer: str
    expires: float
    transport: asyncio.Transport

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait in this process."""

    @property
    def idle(self) -> bool:
        """True when no call is running."""

    def expire(self) -> None:
        """The sweep found `expires` in the past."""

    def drain(self) -> None:
        """Close as soon as nothing is running; streams are ended with their farewell."""


class Registry(Protocol):
    """Who keeps count of the connections."""

    def admit(self, connection: Held) -> errors.RallypointError | None:
        """Register a new connection, or say why it may not stay."""

    def replace(self, connection: Held, successor: Held) -> None:
        """The same connection, from here on under another protocol."""

    def forget(self, connection: Held) -> None:
        """A connection is gone."""


@dataclass(frozen=True, slots=True)
class Core:
    """Shared by all connections of an edge."""

    loop: asyncio.AbstractEventLoop
    tasks: asyncio.TaskGroup
    settings: EdgeSettings
    planner: Planner
    guard: calls.Guard
    again: calls.Again | None
    streams: StreamCore
    details: Details
    drain: InputDrain | None

    def spawn(
        self, run: Callable[[], Coroutine[Any, Any, None]], *, name: str, fail: Callable[[], None]
    ) -> asyncio.Task[None]:
        """Run a task that lets no exception out; `fail` is called for one that tried to get out."""
        return self.tasks.create_task(calls_faults.contained(run, fail), name=name)

    def end_lines(self, call: calls.Call | None, error: errors.RallypointError | None) -> bytes:
        """Return the trailer lines of a call."""
        extra = grpcweb.fields(call.trailers) if call is not None and call.trailers else b""
        if error is None:
            return grpcweb.status_lines(0) + extra
        return grpcweb.status_lines(int(error.code), error.message, self.details(error)) + extra

    def refusal(self, refusal: Refusal, cors: bytes = b"") -> bytes:
        """Return the whole response to a refused request. The connection closes after it."""
        error, plan = refusal.error, refusal.plan
        metrics.GATEWAY_REFUSALS.labels(error.reason).inc()
        if not isinstance(plan, RpcPlan):
            lines = cors + http_response.UPGRADE_LINES if refusal.http_status == 426 else cors
            details = self.details(error)
            return http_response.refusal(refusal.http_status, error, details=details, lines=lines)
        plan.tally.count(int(error.code))
        head = http_response.unary_head(plan.mode, plan.cors, close=True)
        body = grpcweb.encode(grpcweb.trailer_frame(self.end_lines(None, error)), plan.mode)
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)
