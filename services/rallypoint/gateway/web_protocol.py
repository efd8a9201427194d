"""One HTTP/1.1 connection of the web edge.

Requests are answered one after the other. A call that answers at once is parsed, run and written
within `data_received`, without a task. While a call waits or streams, a few further requests may
queue (`HttpLimits.max_pipelined`); one behind a stream ends the stream: it could never be served.
Every refusal is answered, then the connection is closed: our side at once, the client's after it
has had `_LINGER_S` to read the answer, since a reset would take it away.
`expires` is read by the edge's sweep; the connection itself sets no timer per request.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from http import HTTPStatus
from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from rallypoint.gateway import calls, calls_faults, web_unary
from rallypoint.gateway.domain import grpcweb, http_response, origin
from rallypoint.gateway.domain.http_request import Head, Refusal, Request, RequestParser
from rallypoint.gateway.web_core import Core, Registry
from rallypoint.gateway.web_express import Lane
from rallypoint.gateway.web_plan import Plan, RpcPlan, SocketPlan
from rallypoint.gateway.web_stream import WebOutlet
from rallypoint.gateway.websocket import Socket
from rallypoint.kit import errors

_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
_PROGRESS_S = 5.0
_PROGRESS_BYTES = 16 * 1024
NEVER = float("inf")


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    transport: asyncio.Transport

    def __init__(self, core: Core, registry: Registry) -> None:
        self.peer = ""
        self.expires = NEVER
        """When the sweep may close it, on the loop's clock."""
        self._core = core
        self._registry = registry
        self._parser = RequestParser(core.settings.http, self._judge)
        self._lane = Lane(core.again)
        self._origin = ""
        self._outlet: WebOutlet | None = None
        self._task: asyncio.Task[None] | None = None
        self._refused: Refusal | None = None
        self._draining = False
        self._lingering = False
        self._held = False
        self._unsent_before = 0
        self._discarded = 0
        self._full = False
        self.armed: int | None = None
        """Its place in the drain, which reads its socket then."""
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse."""
        self.transport = cast("asyncio.Transport", transport)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if isinstance(peername, tuple) else ""
        self._rest()
        error = self._registry.admit(self)
        if error is not None:
            self._refuse(Refusal(429, error))

    def data_received(self, data: bytes) -> None:
        """Take bytes; serve the requests they complete."""
        if self._at_rest():
            now = self._core.loop.time()
            if self._lane.serve(data, self.transport, now):
                self.expires = now + self._core.settings.idle_timeout_s
                if self._full:
                    self._hold()
                elif self._lane.repeats:
                    self._offer(data)
                return
        if self._lingering or self._refused is not None:
            self._discard(len(data))
            return
        parser = self._parser
        fresh = parser.between
        try:
            parser.feed(data)
        except Refusal as refusal:
            self._refused = refusal
        if self._busy():
            self._while_busy()
            return
        self._serve_ready()
        if self._refused is None and not parser.between:
            if fresh:
                self.expires = self._core.loop.time() + self._core.settings.request_timeout_s
            if parser.wants_continue and not self._busy():
                self.transport.write(http_response.CONTINUE)
        if self._full and self._outlet is None:
            self._hold()

    def eof_received(self) -> bool:
        """Take a half-closed connection for a client that left, as browsers and fetch close.

        What could be answered at once has been; what waits is cancelled by `connection_lost`.
        """
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what still runs."""
        if self._core.drain is not None:
            self._core.drain.forget(self)
        self._registry.forget(self)
        self._full = False
        self._writable.set()
        if self._outlet is not None:
            self._outlet.leave()
            self._outlet = None
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._full = False
        self._writable.set()
        if self._held:
            self._held = False
            self._core.loop.call_soon(self._resume)

    # --- what the stream and the edge call ---

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""
        await self._writable.wait()

    def answered(self, *, close: bool) -> None:
        """A stream has written its last byte."""
        self._outlet = None
        self._after_answer(close=close)
        self._serve_ready()

    def expire(self) -> None:
        """The sweep found `expires` in the past."""
        if self.armed is not None and self._was_busy_armed():
            return
        if self.transport.is_closing() and not self.unsent:
            self.expires = NEVER
        elif self.unsent:
            self._expire_unsent()
        elif self._lingering:
            self.transport.abort()
        elif self._parser.between:
            self.transport.close()
        else:
            self._refuse(Refusal(408, calls_faults.request_late()))

    def drain(self) -> None:
        """Close as soon as nothing is running; streams are ended with their farewell."""
        self._draining = True
        if self._core.drain is not None:
            self._core.drain.release(self)
        if self._outlet is not None:
            self._outlet.retire(calls_faults.draining())
        elif self._task is None and self._parser.between and not self._lingering:
            self.transport.close()

    def _expire_unsent(self) -> None:
        """Give an answer that is still being read more time, as long as it is being read."""
        before, self._unsent_before = self._unsent_before, self.unsent
        if before and before - self.unsent < _PROGRESS_BYTES:
            self.transport.abort()
        else:
            self.expires = self._core.loop.time() + _PROGRESS_S

    def _resume(self) -> None:
        """Go on with the requests that waited for the client to read."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._serve_ready()

    def _hold(self) -> None:
        """Take no more requests from a client that does not read our answers."""
        if not self._held and not self.transport.is_closing():
            self._held = True
            self.transport.pause_reading()

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait in this process."""
        return self.transport.get_write_buffer_size()

    @property
    def idle(self) -> bool:
        """True when no call is running."""
        return not self._busy()

    # --- the drain ---

    def _offer(self, data: bytes) -> None:
        """Let the drain read what will be like `data`."""
        drain = self._core.drain
        arming = self._lane.arming(data)
        if drain is not None and arming is not None:
            drain.offer(self, arming)

    @property
    def is_quiet(self) -> bool:
        """True when nothing runs, waits or is unsent."""
        return self._at_rest() and not self.unsent and not self.transport.is_closing()

    def returned(self, data: bytes, unsent: bytes) -> None:
        """The drain reads no more."""
        self._lane.returned()
        self.expires = self._core.loop.time() + self._core.settings.idle_timeout_s
        if self.transport.is_closing():
            return
        if unsent:
            self.transport.write(unsent)
        self.transport.resume_reading()
        if data:
            self.data_received(data)

    def _was_busy_armed(self) -> bool:
        """Whether the drain heard of the client meanwhile; if not, the drain lets go of it."""
        drain = self._core.drain
        assert drain is not None
        self.expires = drain.seen_at(self) + self._core.settings.idle_timeout_s
        if self.expires > self._core.loop.time():
            return True
        drain.release(self)
        return False

    # --- requests ---

    def _at_rest(self) -> bool:
        """Nothing runs, waits or has to be ended: the next byte starts a request of its own."""
        return (
            self._parser.at_rest
            and self._outlet is None
            and self._task is None
            and self._refused is None
            and not (self._full or self._draining or self._lingering)
        )

    def _busy(self) -> bool:
        return self._outlet is not None or self._task is not None

    def _judge(self, head: Head) -> Plan:
        self._origin = head.headers.get("origin", "")
        try:
            return self._core.planner.plan(head, self.peer)
        except Refusal as refusal:
            if refusal.http_status == HTTPStatus.FORBIDDEN:
                self._origin = ""
            raise

    def _while_busy(self) -> None:
        if self._outlet is not None and (self._refused is not None or self._parser.ready):
            error = errors.ResourceExhausted("PIPELINE_LIMIT", "a request came behind a stream")
            self._refused = Refusal(429, error)
            self._outlet.end(error)

    def _serve_ready(self) -> None:
        ready = self._parser.ready
        while ready and not self._busy() and not self._lingering:
            if self._full:
                self._hold()
                return
            self._serve(ready.popleft())
        if self._refused is not None and not self._busy() and not self._lingering:
            self._refuse(self._refused)
        elif self._outlet is not None and (ready or self._refused is not None):
            self._while_busy()

    def _serve(self, request: Request) -> None:
        plan: Plan = request.plan  # type: ignore[assignment]  # our own judge made it
        if isinstance(plan, RpcPlan):
            self._call(plan, request.body)
            return
        if isinstance(plan, SocketPlan):
            self._become_socket(plan)
            return
        self.transport.write(b"".join(plan.response))
        self._after_answer(close=plan.close)

    def _become_socket(self, plan: SocketPlan) -> None:
        """Hand the connection over; nothing of it comes here any more."""
        if self._refused is not None:
            return
        socket = Socket(
            self._core, self._registry, self.transport, peer=self.peer, client=plan.peer
        )
        self._registry.replace(self, socket)
        self.transport.set_protocol(socket)
        self.transport.write(plan.response)
        socket.data_received(self._parser.beyond or b"")
        if self._draining:
            socket.drain()

    def _call(self, plan: RpcPlan, body: bytes) -> None:
        deadline = self._core.loop.time() + plan.timeout_s
        method = plan.method
        call = calls.Call(
            method.path, plan.metadata, plan.peer, deadline, plan.trace_parent, self.transport
        )
        try:
            self._core.guard(call, method)
            if plan.mode is grpcweb.Mode.TEXT:
                body = grpcweb.decode_text(body)
            payload = grpcweb.one_message(body, gzip=plan.gzip, max_bytes=method.max_bytes)
            message = method.request.FromString(payload)
            if isinstance(method, calls.StreamMethod):
                self._stream(plan, call, message)
                return
            reply = web_unary.invoke(plan, method, call, message)
        except DecodeError:
            self._fail(plan, call, calls_faults.malformed_message())
        except Exception as fault:
            self._fail(plan, call, calls_faults.to_error(fault, call, self._core.loop.time()))
        else:
            if isinstance(reply, (bytes, Message)):
                self._answer(plan, call, reply)
                if reply == b"":
                    self._lane.learn(plan, self._parser.hot, call, body)
            else:
                self._start_waiting(plan, call, reply)

    def _start_waiting(
        self, plan: RpcPlan, call: calls.Call, reply: Awaitable[calls.Reply]
    ) -> None:
        self.expires = NEVER
        self._task = self._core.spawn(
            lambda: self._wait(plan, call, reply), name=call.method, fail=self.transport.abort
        )
        if isinstance(reply, Coroutine):
            # Cancelled before its first step, the task would leave the handler's coroutine over.
            self._task.add_done_callback(lambda _: reply.close())

    # --- unary ---

    async def _wait(self, plan: RpcPlan, call: calls.Call, reply: Awaitable[calls.Reply]) -> None:
        try:
            result = await web_unary.settle(plan, call, reply, clock=self._core.loop.time)
        finally:
            self._task = None
        if self.transport.is_closing():
            return
        if isinstance(result, errors.RallypointError):
            self._fail(plan, call, result)
        else:
            self._answer(plan, call, result)
        self._serve_ready()

    def _answer(self, plan: RpcPlan, call: calls.Call, reply: calls.Reply) -> None:
        body = reply if isinstance(reply, bytes) else reply.SerializeToString()
        size = len(body)
        if call.headers or call.trailers or plan.mode is grpcweb.Mode.TEXT:
            trailer = grpcweb.trailer_frame(self._core.end_lines(call, None))
            self._write(plan, call, grpcweb.frame(body) + trailer)
        else:
            total = grpcweb.PREFIX_BYTES + size + len(grpcweb.OK_TRAILER)
            prefix = size.to_bytes(4, "big")
            self.transport.write(
                b"%b%d\r\n\r\n\0%b%b%b" % (plan.head, total, prefix, body, grpcweb.OK_TRAILER)
            )
        plan.tally.count_ok()
        self._after_answer(close=plan.close)

    def _fail(self, plan: RpcPlan, call: calls.Call, error: errors.RallypointError) -> None:
        if isinstance(plan.method, calls.StreamMethod):
            outlet = WebOutlet(self._core, self, plan, call)
            outlet.end(error)
            return
        self._write(plan, call, grpcweb.trailer_frame(self._core.end_lines(call, error)))
        plan.tally.count(int(error.code))
        self._after_answer(close=plan.close)

    def _write(self, plan: RpcPlan, call: calls.Call, frames: bytes) -> None:
        body = grpcweb.encode(frames, plan.mode)
        extra = grpcweb.fields(call.headers)
        head = plan.head
        if extra:
            start = plan.head.index(b"\r\n") + 2
            head = b"".join((plan.head[:start], extra, plan.head[start:]))
        self.transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))

    # --- stream ---

    def _stream(self, plan: RpcPlan, call: calls.Call, message: Any) -> None:
        method = plan.method
        assert isinstance(method, calls.StreamMethod)
        self.expires = NEVER
        outlet = self._outlet = WebOutlet(self._core, self, plan, call)
        outlet.run(lambda: method.handler(call, message, outlet))

    # --- the end of a response, and of the connection ---

    def _rest(self) -> None:
        settings = self._core.settings
        wait_s = settings.idle_timeout_s if self._parser.between else settings.request_timeout_s
        self.expires = self._core.loop.time() + wait_s

    def _after_answer(self, *, close: bool) -> None:
        if close or self._draining:
            self._linger()
        else:
            self._rest()

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = refusal
        cors = origin.allow_lines(self._origin)
        self.transport.write(self._core.refusal(refusal, cors))
        self._linger()

    def _linger(self) -> None:
        if self._lingering:
            return
        self._lingering = True
        self.expires = self._core.loop.time() + _LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()
