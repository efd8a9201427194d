"""The part of a server stream that both edges share: its end, its deadline, its fan-out slot.

Whatever ends a stream first decides its status: the handler, `end`, the deadline, or the client's
leaving, which has none. After that the handler is cancelled.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway import calls, calls_faults
from rallypoint.gateway.domain.grpcweb import Framing
from rallypoint.gateway.fanout import FanOut, Problem, Transport
from rallypoint.kit import errors


@dataclass(frozen=True, slots=True)
class StreamCore:
    """What all streams of an edge share."""

    loop: asyncio.AbstractEventLoop
    tasks: asyncio.TaskGroup
    fan_out: FanOut
    max_pending_bytes: int


class StreamOutlet:
    """The sending end of one stream, but for the bytes around it. Implements `calls.Outlet`.

    An edge adds `_start` (bytes before the first message), `_write_end`, `_ended` (bookkeeping) and
    `wait_writable`.
    """

    def __init__(
        self,
        core: StreamCore,
        method: calls.Method,
        call: calls.Call,
        *,
        transport: Transport,
        framing: Framing,
        client_timeout: bool,
    ) -> None:
        self._core = core
        self._method = method
        self._call = call
        self._transport = transport
        self._framing = framing
        self._client_timeout = client_timeout
        self._slot: int | None = None
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer = core.loop.call_at(call.deadline, self._expire)

    def _start(self) -> bytes:
        """Return what goes before the first message; nothing after the first time."""
        return b""

    def _write_end(self, error: errors.RallypointError | None) -> None:
        raise NotImplementedError

    def _ended(self, code: errors.Code) -> None:
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Wait until the connection takes more."""
        raise NotImplementedError

    @property
    def slot(self) -> int:
        """The place in the fan-out."""
        if self._slot is None:
            if self._closed:
                raise errors.Aborted("STREAM_CLOSED", "the stream has ended")
            if start := self._start():
                self._write(start)
            self._slot = self._core.fan_out.add(self._transport, self._framing)
        return self._slot

    @property
    def closed(self) -> bool:
        """True once ended or left."""
        return self._closed

    @property
    def unsent(self) -> int:
        """Bytes that wait in the transport."""
        return self._transport.get_write_buffer_size()

    def run(self, handler: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the handler as a task."""
        contained = calls_faults.contained(lambda: self._run(handler), self._transport.abort)
        self._task = self._core.tasks.create_task(contained, name=self._method.path)

    async def _run(self, handler: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Cancelled: ended or left already; otherwise the process itself is stopping.
        error: errors.RallypointError | None = calls_faults.draining()
        try:
            with calls_faults.traced(self._call, self._core.loop.time) as outcome:
                await handler()
            error = outcome.error
        finally:
            self._finish(error)

    def send(self, message: bytes) -> Problem | None:
        """Send one message after those before it."""
        if self._closed:
            return Problem.GONE
        transport = self._transport
        pending = transport.get_write_buffer_size()
        if pending > self._core.max_pending_bytes:
            raise errors.ResourceExhausted("STREAM_OVERFLOW", "the client reads too slowly")
        if not self._write(self._start() + self._framing(message)):
            return Problem.GONE
        return Problem.BEHIND if pending else None

    def _write(self, data: bytes) -> bool:
        try:
            self._transport.write(data)
        except RuntimeError:  # uvloop's, between a reset and `connection_lost`
            return False
        self.touch()
        return True

    def touch(self) -> None:
        """Say that the transport was written to: what the fan-out sends must come after it."""
        if self._slot is not None:
            self._core.fan_out.touch(self._slot)

    def end(self, error: errors.RallypointError | None = None) -> None:
        """End with a status and cancel the handler."""
        self._finish(error)
        self._cancel()

    def abandon(self, *, within_s: float) -> None:
        """Close the connection if what was written is not read in time."""

        def look() -> None:
            if self._transport.get_write_buffer_size():
                self._transport.abort()

        self._core.loop.call_later(within_s, look)

    def leave(self) -> None:
        """The client is gone."""
        self._close(errors.Code.CANCELLED)
        self._cancel()

    def retire(self, error: errors.RallypointError) -> None:
        """End for our own reasons, after the method's farewell."""
        method = self._method
        farewell = method.farewell if isinstance(method, calls.StreamMethod) else b""
        if farewell and not self._closed:
            self._write(self._start() + self._framing(farewell))
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

    def _expire(self) -> None:
        if self._client_timeout:
            self.end(calls_faults.deadline())
        else:
            self.retire(calls_faults.stream_age())

    def _finish(self, error: errors.RallypointError | None) -> None:
        if not self._closed:
            self._close(error.code if error is not None else errors.Code.OK)
            self._write_end(error)

    def _close(self, code: errors.Code) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        if self._on_close is not None:
            self._on_close()
        if self._slot is not None:
            self._core.fan_out.remove(self._slot)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._ended(code)

    def _cancel(self) -> None:
        task = self._task
        if task is not None and task is not asyncio.current_task(self._core.loop):
            task.cancel()
