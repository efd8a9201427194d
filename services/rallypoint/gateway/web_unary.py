"""A unary call from its message to its answer, whatever carries it: a POST or a WebSocket."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from rallypoint.gateway import calls, calls_faults
from rallypoint.gateway.web_plan import RpcPlan
from rallypoint.kit import errors, telemetry


def invoke(
    plan: RpcPlan, method: calls.UnaryMethod, call: calls.Call, message: Any
) -> calls.Reply | Awaitable[calls.Reply]:
    """Run the handler, within a span if the caller's trace is recorded; what it has to wait for
    begins in `settle`, which opens the span of that."""
    handler = method.handler
    if not plan.sampled or not telemetry.enabled() or inspect.iscoroutinefunction(handler):
        return handler(call, message)
    parent = {"traceparent": plan.trace_parent}
    with telemetry.span(call.method, kind="server", parent=parent) as span:
        calls_faults.tell_socket(span, call)
        reply = handler(call, message)
    return reply


async def settle(
    plan: RpcPlan,
    call: calls.Call,
    reply: Awaitable[calls.Reply],
    *,
    clock: Callable[[], float],
) -> calls.Reply | errors.RallypointError:
    """Wait for an answer until the call's deadline; counts what was cancelled meanwhile."""
    started = clock()
    result: calls.Reply = b""
    try:
        recorded = not calls.is_hot(plan.method)
        with calls_faults.traced(call, clock, recorded=recorded) as outcome:
            async with asyncio.timeout_at(call.deadline):
                result = await reply
    except asyncio.CancelledError:
        plan.tally.count(errors.Code.CANCELLED)
        raise
    plan.tally.waited(clock() - started)
    return result if outcome.error is None else outcome.error
