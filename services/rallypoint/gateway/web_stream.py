"""One server stream of the web edge: an Outlet over a connection.

The head goes out with the first message, or with the status when there is none, so response
metadata can be set until then. Whatever ends the stream first decides its status: the handler,
`end`, the deadline, or the client leaving, which has none. After that the handler is cancelled.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from rallypoint.gateway import calls, calls_faults
from rallypoint.gateway.domain import grpcweb, http_response
from rallypoint.gateway.fanout import Problem
from rallypoint.gateway.web_core import Core
from rallypoint.gateway.web_plan import RpcPlan
from rallypoint.kit import errors, metrics, telemetry

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


class WebOutlet:
    """The sending end of a stream. Implements `calls.Outlet`."""

    def __init__(self, core: Core, line: Line, plan: RpcPlan, call: calls.Call) -> None:
        self._core = core
        self._line = line
        self._plan = plan
        self._call = call
        self._framing = grpcweb.FRAMINGS[plan.mode]
        self._slot: int | None = None
        self._head_sent = False
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer = core.loop.call_at(call.deadline, self._expire)
        _STREAMS.inc()

    @property
    def slot(self) -> int:
        """The place in the fan-out."""
        if self._slot is None:
            if self._closed:
                raise errors.Aborted("STREAM_CLOSED", "the stream has ended")
            self._send_head()
            self._slot = self._core.fan_out.add(self._line.transport, self._framing)
        return self._slot

    @property
    def closed(self) -> bool:
        """True once ended or left."""
        return self._closed

    def start(self, handler: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the handler as a task."""
        self._task = self._core.spawn(self._run(handler), self._plan.method.path)

    async def _run(self, handler: Callable[[], Coroutine[Any, Any, None]]) -> None:
        error: errors.RallypointError | None = None
        call = self._call
        parent = {"traceparent": call.trace_parent} if call.trace_parent else None
        try:
            with telemetry.span(call.method, kind="server", parent=parent):
                await handler()
        except asyncio.CancelledError:
            # Ended or left already; otherwise the process itself is stopping.
            error = calls_faults.draining()
            raise
        except Exception as fault:
            error = calls_faults.to_error(fault, call)
        finally:
            self._finish(error)

    def send(self, message: bytes) -> Problem | None:
        """Send one message after those before it."""
        if self._closed:
            return Problem.GONE
        transport = self._line.transport
        pending = transport.get_write_buffer_size()
        if pending > self._core.settings.max_pending_bytes:
            raise errors.ResourceExhausted("STREAM_OVERFLOW", "the client reads too slowly")
        if self._head_sent:
            transport.write(self._framing(message))
        else:
            self._head_sent = True
            transport.write(self._head() + self._framing(message))
        return Problem.BEHIND if pending else None

    def end(self, error: errors.RallypointError | None = None) -> None:
        """End with a status and cancel the handler."""
        self._finish(error)
        self._cancel()

    def leave(self) -> None:
        """The client is gone."""
        self._close(errors.Code.CANCELLED)
        self._cancel()

    def retire(self, error: errors.RallypointError) -> None:
        """End for our own reasons, after the method's farewell."""
        method = self._plan.method
        farewell = method.farewell if isinstance(method, calls.StreamMethod) else b""
        if farewell and not self._closed:
            self._send_head()
            self._line.transport.write(self._framing(farewell))
        self.end(error)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back at the end, before the slot is free."""
        self._on_close = callback

    async def wait_closed(self) -> None:
        """Wait for the end."""
        if self._closed:
            return
        if self._waiting is None:
            self._waiting = self._core.loop.create_future()
        await asyncio.shield(self._waiting)

    async def wait_writable(self) -> None:
        """Wait until less than the write buffer's limit is unsent."""
        if not self._closed:
            await self._line.wait_writable()

    def _head(self) -> bytes:
        if not self._call.headers:
            return self._plan.head + b"\r\n"
        return self._plan.head + grpcweb.fields(self._call.headers) + b"\r\n"

    def _send_head(self) -> None:
        if not self._head_sent:
            self._head_sent = True
            self._line.transport.write(self._head())

    def _expire(self) -> None:
        if self._plan.client_timeout:
            self.end(calls_faults.deadline())
        else:
            self.retire(calls_faults.stream_age())

    def _finish(self, error: errors.RallypointError | None) -> None:
        if self._closed:
            return
        self._close(error.code if error is not None else errors.Code.OK)
        start = b"" if self._head_sent else self._head()
        trailer = grpcweb.trailer_frame(self._core.end_lines(self._call, error))
        body = grpcweb.chunk(grpcweb.encode(trailer, self._plan.mode))
        self._line.transport.write(b"".join((start, body, http_response.LAST_CHUNK)))
        self._line.answered(close=self._plan.close)

    def _close(self, code: int) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        _STREAMS.dec()
        self._plan.tally.count(code)
        if self._on_close is not None:
            self._on_close()
        if self._slot is not None:
            self._core.fan_out.remove(self._slot)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _cancel(self) -> None:
        task = self._task
        if task is not None and task is not asyncio.current_task(self._core.loop):
            task.cancel()
