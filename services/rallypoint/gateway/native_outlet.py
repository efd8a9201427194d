"""One server stream of the native edge: a bounded queue that feeds the library's generator.

The queue imitates a transport, so the fan-out treats both edges alike: what the library has not
taken yet is the write buffer, and a client that does not read keeps it from taking more.
"""

import asyncio
from collections import deque

from rallypoint.gateway import calls, web_metrics
from rallypoint.gateway.calls_stream import StreamCore, StreamOutlet
from rallypoint.gateway.domain import grpcweb
from rallypoint.kit import errors, metrics

_STREAMS = metrics.GATEWAY_STREAMS.labels("native")
_LOW_WATER_BYTES = 16 * 1024


class MessageQueue:
    """Messages on their way into the library. Implements `fanout.Transport`."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._over = False
        self._aborted = False
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def write(self, data: bytes) -> None:
        """Queue a message."""
        self._messages.append(data)
        self._bytes += len(data)
        if self._bytes > _LOW_WATER_BYTES:
            self._drained.clear()
        self._changed.set()

    def get_write_buffer_size(self) -> int:
        """Bytes queued."""
        return self._bytes

    def abort(self) -> None:
        """Stop at once; what is queued is lost."""
        self._messages.clear()
        self._bytes = 0
        self._aborted = True
        self.close()

    def close(self) -> None:
        """No message follows those that are queued."""
        self._over = True
        self._changed.set()
        self._drained.set()

    @property
    def aborted(self) -> bool:
        """True when the fan-out cut the stream."""
        return self._aborted

    async def next(self) -> bytes | None:
        """Wait for the next message; None when there is none any more."""
        while not self._messages:
            if self._over:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        if self._bytes <= _LOW_WATER_BYTES:
            self._drained.set()
        return message

    async def wait_drained(self) -> None:
        """Wait until little is queued."""
        await self._drained.wait()


class NativeOutlet(StreamOutlet):
    """The sending end of a stream."""

    def __init__(
        self,
        core: StreamCore,
        method: calls.Method,
        call: calls.Call,
        *,
        tally: web_metrics.Tally,
    ) -> None:
        self.queue = MessageQueue()
        super().__init__(
            core,
            method,
            call,
            transport=self.queue,
            framing=grpcweb.native,
            client_timeout="grpc-timeout" in call.metadata,
        )
        self._tally = tally
        self.error: errors.RallypointError | None = None
        """How the stream ended, None for OK; read once the queue is at its end."""
        _STREAMS.inc()

    async def wait_writable(self) -> None:
        """Wait until the library has taken most of what was sent."""
        if not self._closed:
            await self.queue.wait_drained()

    def _write_end(self, error: errors.RallypointError | None) -> None:
        self.error = error
        self.queue.close()

    def _ended(self, code: errors.Code) -> None:
        _STREAMS.dec()
        self._tally.count(code)
