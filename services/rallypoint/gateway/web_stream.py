"""One server stream of the web edge: an Outlet over a connection.

The head goes out with the first message, or with the status when there is none, so response
metadata can be set until then.
"""

import asyncio
from typing import Protocol

from rallypoint.gateway import calls
from rallypoint.gateway.calls_stream import StreamOutlet
from rallypoint.gateway.domain import grpcweb, http_response
from rallypoint.gateway.web_core import Core
from rallypoint.gateway.web_plan import RpcPlan
from rallypoint.kit import errors, metrics

_STREAMS = metrics.GATEWAY_STREAMS.labels("web")


class Line(Protocol):
    """What a stream needs of its connection."""

    @property
    def transport(self) -> asyncio.Transport:
        """Where to write."""

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""

    def answered(self, *, close: bool) -> None:
        """Say that the response is complete."""


class WebOutlet(StreamOutlet):
    """The sending end of a stream."""

    def __init__(self, core: Core, line: Line, plan: RpcPlan, call: calls.Call) -> None:
        super().__init__(
            core.streams,
            plan.method,
            call,
            transport=line.transport,
            framing=grpcweb.FRAMINGS[plan.mode],
            client_timeout=plan.client_timeout,
        )
        self._web = core
        self._line = line
        self._plan = plan
        self._head_sent = False
        _STREAMS.inc()

    async def wait_writable(self) -> None:
        """Wait until less than the write buffer's limit is unsent."""
        if not self._closed:
            await self._line.wait_writable()

    def _start(self) -> bytes:
        if self._head_sent:
            return b""
        self._head_sent = True
        return self._plan.head + grpcweb.fields(self._call.headers) + b"\r\n"

    def _write_end(self, error: errors.RallypointError | None) -> None:
        trailer = grpcweb.trailer_frame(self._web.end_lines(self._call, error))
        body = grpcweb.chunk(grpcweb.encode(trailer, self._plan.mode))
        if self._write(b"".join((self._start(), body, http_response.LAST_CHUNK))):
            self._line.answered(close=self._plan.close)

    def _ended(self, code: errors.Code) -> None:
        _STREAMS.dec()
        self._plan.tally.count(code)
