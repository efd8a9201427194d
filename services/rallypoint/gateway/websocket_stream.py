"""One server stream within a WebSocket: an Outlet whose end leaves the connection open."""

from __future__ import annotations

import asyncio
from typing import Protocol

from rallypoint.gateway import calls
from rallypoint.gateway.calls_stream import StreamOutlet
from rallypoint.gateway.domain import websocket_calls
from rallypoint.gateway.web_core import Core
from rallypoint.gateway.web_plan import RpcPlan
from rallypoint.kit import errors, metrics

_STREAMS = metrics.GATEWAY_STREAMS.labels("websocket")


class Line(Protocol):
    """What a stream needs of its connection."""

    @property
    def transport(self) -> asyncio.Transport:
        """Where to write."""

    def touch(self) -> None:
        """Say that the transport was written to."""

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""

    def end(self, number: int, call: calls.Call, error: errors.RallypointError | None) -> None:
        """Say how a call ended; its number is free then."""


class SocketOutlet(StreamOutlet):
    """The sending end of a stream."""

    def __init__(
        self, core: Core, line: Line, plan: RpcPlan, call: calls.Call, *, number: int
    ) -> None:
        super().__init__(
            core.streams,
            plan.method,
            call,
            transport=line.transport,
            framing=websocket_calls.framing(number),
            client_timeout=plan.client_timeout,
        )
        self._line = line
        self._plan = plan
        self._number = number
        _STREAMS.inc()

    async def wait_writable(self) -> None:
        """Wait until less than the write buffer's limit is unsent."""
        if not self._closed:
            await self._line.wait_writable()

    def _write(self, data: bytes) -> bool:
        written = super()._write(data)
        self._line.touch()
        return written

    def _write_end(self, error: errors.RallypointError | None) -> None:
        self._line.end(self._number, self._call, error)

    def _ended(self, code: errors.Code) -> None:
        _STREAMS.dec()
        self._plan.tally.count(code)
