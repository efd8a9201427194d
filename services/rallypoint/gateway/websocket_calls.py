"""The calls of one WebSocket: which run, which numbers are lanes, and how each ends.

Each call runs as one of a POST does: the planner judges its head, the guard stands before its
handler, its stream is registered with the same fan-out. The connection (`websocket.Socket`) hands
whole messages over and is told when nothing runs any more. It closes when too many of its calls are
refused before they begin, as that of a refused POST does at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import DecodeError, Message

from rallypoint.gateway import calls, calls_faults, web_unary
from rallypoint.gateway.domain import buckets, grpcweb, websocket, websocket_calls
from rallypoint.gateway.domain.http_request import Refusal
from rallypoint.gateway.web_core import Core
from rallypoint.gateway.web_plan import RpcPlan
from rallypoint.gateway.websocket_lane import Lane
from rallypoint.gateway.websocket_stream import SocketOutlet
from rallypoint.kit import errors, metrics

MAX_CALLS = 16
MAX_LANES = 4
_FAILURES_ONLY = "failures"
_REFUSALS_S = 20
"""For so long refusals may come at their rate in the long run before one is one too many."""


class Line(Protocol):
    """What the calls need of their connection."""

    transport: asyncio.Transport

    def write(self, data: bytes) -> None:
        """Send; nothing happens when the connection is gone."""

    def ended(self) -> None:
        """A call is over, perhaps the last one."""

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""


@dataclass(slots=True)
class _Running:
    """A call that is not answered yet."""

    plan: RpcPlan
    call: calls.Call
    number: int
    lane: Lane | None = None
    outlet: SocketOutlet | None = None
    task: asyncio.Task[None] | None = None


class SocketCalls:
    """All calls of one WebSocket. Implements `websocket_stream.Line`."""

    def __init__(self, core: Core, line: Line, *, client: str) -> None:
        self.lanes: dict[int, Lane] = {}
        self._core = core
        self._line = line
        self._client = client
        self._running: dict[int, _Running] = {}
        """By number; calls of lanes are in `_on_lanes`."""
        self._on_lanes: set[asyncio.Task[None]] = set()
        self._draining = False
        self._refusals: buckets.Buckets | None = None
        """Made by the first refusal: most connections have none."""

    @property
    def busy(self) -> bool:
        """True while a call runs."""
        return bool(self._running or self._on_lanes)

    def drain(self) -> None:
        """Begin no call any more; end streams with their farewell."""
        self._draining = True
        for running in list(self._running.values()):
            if running.outlet is not None:
                running.outlet.retire(calls_faults.draining())

    def abandon(self) -> None:
        """End everything without a word: the connection is gone or going."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            if one.outlet is not None:
                one.outlet.leave()
            elif one.task is not None:
                one.task.cancel()
        for task in tuple(self._on_lanes):
            task.cancel()
        self.lanes.clear()

    def serve(self, said: websocket_calls.Said) -> None:
        """Take one message; Violation when its number is in use, or for one refusal too many."""
        number = said.call
        if said.cancels:
            self._cancel(number)
        elif number in self._running:
            raise websocket.Violation(websocket.POLICY, "CALL_BUSY")
        elif said.head is not None:
            self._open(number, said.head, said.body)
        elif (lane := self.lanes.get(number)) is not None:
            self._call(_Running(lane.plan, self._new_call(lane.plan), number, lane), said.body)
        else:
            missing = errors.FailedPrecondition("HEAD_MISSING", "the number is not a lane's")
            self._refuse(number, None, missing)

    def _open(self, number: int, head: bytes, body: bytes) -> None:
        """A call with a head; it makes its number a lane, or ends the lane that was there."""
        try:
            fields = websocket_calls.fields(head)
            plan = self._core.planner.within(fields.pop("path", ""), fields, self._client)
            lane = self._lane(number, plan, fields.get("answer", ""))
        except Refusal as refusal:
            metrics.GATEWAY_REFUSALS.labels(refusal.error.reason).inc()
            if isinstance(refusal.plan, RpcPlan):
                refusal.plan.tally.count(int(refusal.error.code))
            self._refuse(number, None, refusal.error)
        except errors.RallypointError as error:
            metrics.GATEWAY_REFUSALS.labels(error.reason).inc()
            self._refuse(number, None, error)
        else:
            self._call(_Running(plan, self._new_call(plan), number, lane), body)

    def _lane(self, number: int, plan: RpcPlan, wish: str) -> Lane | None:
        self.lanes.pop(number, None)
        if not wish:
            return None
        if wish != _FAILURES_ONLY or not isinstance(plan.method, calls.UnaryMethod):
            raise errors.InvalidArgument("ANSWER_UNSUPPORTED", "answer: failures, of unary calls")
        if len(self.lanes) >= MAX_LANES:
            raise errors.ResourceExhausted("LANES_EXCEEDED", "too many lanes")
        lane = self.lanes[number] = Lane(plan, plan.method, self._core.again)
        return lane

    def _new_call(self, plan: RpcPlan) -> calls.Call:
        deadline = self._core.loop.time() + plan.timeout_s
        return calls.Call(
            plan.method.path,
            plan.metadata,
            plan.peer,
            deadline,
            plan.trace_parent,
            self._line.transport,
        )

    # --- calls ---

    def _call(self, running: _Running, body: bytes) -> None:
        plan, call = running.plan, running.call
        try:
            message = self._admitted(plan, call, body)
        except errors.RallypointError as error:
            plan.tally.count(int(error.code))
            self._refuse(running.number, call, error)
            return
        try:
            if isinstance(plan.method, calls.StreamMethod):
                self._stream(running, plan.method, message)
                return
            reply = web_unary.invoke(plan, plan.method, call, message)
        except Exception as fault:
            self._fail(running, calls_faults.to_error(fault, call, self._core.loop.time()))
        else:
            if isinstance(reply, (bytes, Message)):
                self._answer(running, reply)
            else:
                self._wait_for(running, reply)

    def _admitted(self, plan: RpcPlan, call: calls.Call, body: bytes) -> Message:
        """The message of a call that may begin."""
        method = plan.method
        try:
            if self._draining:
                raise calls_faults.draining()
            if len(self._running) + len(self._on_lanes) >= MAX_CALLS:
                raise errors.ResourceExhausted("CALLS_EXCEEDED", "too many calls at once")
            self._core.guard(call, method)
            payload = grpcweb.one_message(body, gzip=plan.gzip, max_bytes=method.max_bytes)
            return method.request.FromString(payload)
        except DecodeError:
            raise calls_faults.malformed_message() from None
        except Exception as fault:
            raise calls_faults.to_error(fault, call, self._core.loop.time()) from None

    def _stream(self, running: _Running, method: calls.StreamMethod, message: Any) -> None:
        call, number = running.call, running.number
        outlet = running.outlet = SocketOutlet(self._core, self, running.plan, call, number=number)
        self._running[number] = running
        outlet.run(lambda: method.handler(call, message, outlet))

    def _wait_for(self, running: _Running, reply: Awaitable[calls.Reply]) -> None:
        task = running.task = self._core.spawn(
            lambda: self._wait(running, reply),
            name=running.call.method,
            fail=self._line.transport.abort,
        )
        if isinstance(reply, Coroutine):
            # Cancelled before its first step, the task would leave the handler's coroutine over.
            task.add_done_callback(lambda _: reply.close())
        if running.lane is None:
            self._running[running.number] = running
        else:
            self._on_lanes.add(task)
            task.add_done_callback(self._on_lanes.discard)

    async def _wait(self, running: _Running, reply: Awaitable[calls.Reply]) -> None:
        clock = self._core.loop.time
        result = await web_unary.settle(running.plan, running.call, reply, clock=clock)
        if running.task is not None:
            self._on_lanes.discard(running.task)
        if isinstance(result, errors.RallypointError):
            self._fail(running, result)
        else:
            self._answer(running, result)

    def _answer(self, running: _Running, reply: calls.Reply) -> None:
        running.plan.tally.count_ok()
        if running.lane is not None:
            running.lane.learn(running.call)
            self._line.ended()
            return
        call = running.call
        body = reply if isinstance(reply, bytes) else reply.SerializeToString()
        self._line.write(
            websocket_calls.answered(running.number, body, self._end_frame(call, None))
        )
        self._forget(running.number, call)
        self._line.ended()

    def _refuse(self, number: int, call: calls.Call | None, error: errors.RallypointError) -> None:
        """Answer a call that does not begin; Violation for one too many."""
        if self._refusals is None:
            per_s = self._core.settings.refusals_per_websocket_per_s
            self._refusals = buckets.Buckets(buckets.Rate(per_s, _REFUSALS_S * per_s), capacity=1)
        if self._refusals.take("", self._core.loop.time()):
            raise websocket.Violation(websocket.POLICY, "REFUSALS_EXCEEDED")
        self.end(number, call, error)

    def _fail(self, running: _Running, error: errors.RallypointError) -> None:
        running.plan.tally.count(int(error.code))
        self.end(running.number, running.call, error)

    @property
    def transport(self) -> asyncio.Transport:
        """Where the fan-out writes."""
        return self._line.transport

    def touch(self) -> None:
        """Say to the fan-out that the transport was written to, for all streams within it."""
        for running in self._running.values():
            if running.outlet is not None:
                running.outlet.touch()

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""
        await self._line.wait_writable()

    def end(
        self, number: int, call: calls.Call | None, error: errors.RallypointError | None
    ) -> None:
        """Say how a call ended; its number is free then."""
        self._forget(number, call)
        self._line.write(websocket_calls.answer(number, self._end_frame(call, error)))
        self._line.ended()

    def _forget(self, number: int, call: calls.Call | None) -> None:
        # A lane's call may end when its number has become another call's.
        running = self._running.get(number)
        if running is not None and running.call is call:
            del self._running[number]

    def _end_frame(self, call: calls.Call | None, error: errors.RallypointError | None) -> bytes:
        lines = self._core.end_lines(call, error)
        if call is not None and call.headers:
            lines += grpcweb.fields(call.headers)
        return grpcweb.trailer_frame(lines)

    def _cancel(self, number: int) -> None:
        running = self._running.pop(number, None)
        if running is None:
            return  # it has ended, and the client does not know yet
        if running.outlet is not None:
            running.outlet.leave()
        elif running.task is not None:
            running.task.cancel()
        lines = grpcweb.status_lines(int(errors.Code.CANCELLED), "cancelled by the client")
        self._line.write(websocket_calls.answer(number, grpcweb.trailer_frame(lines)))
        self._line.ended()
