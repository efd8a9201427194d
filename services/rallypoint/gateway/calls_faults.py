"""Where an exception of a handler becomes what its client may read. Used by both edges.

A RallypointError is passed on. Anything else is a bug: the log gets the traceback, the client a
fixed text and the trace id under which we find it.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway.calls import Call
from rallypoint.kit import cookies, errors, telemetry

_TIMER_S = 0.005  # how early a timer of the loop may fire

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """How a handler ended."""

    error: errors.RallypointError | None = None
    """None: well."""


def to_error(fault: Exception, call: Call, now: float) -> errors.RallypointError:
    """Return the error the client sees; `now` is the clock of `call.deadline`."""
    if isinstance(fault, errors.RallypointError):
        return fault
    if isinstance(fault, TimeoutError) and now >= call.deadline - _TIMER_S:
        return deadline()
    trace_id = telemetry.trace_id() or call.trace_parent[3:35] or secrets.token_hex(16)
    logger.error(
        "handler_failed", extra={"method": call.method, "fault_id": trace_id}, exc_info=fault
    )
    return errors.Internal("INTERNAL", "internal error", metadata={"trace_id": trace_id})


def tell_socket(span: telemetry.Span, call: Call) -> None:
    """Have a recorded span name its socket as the node probe's events do."""
    if not telemetry.enabled():
        return
    cookie = cookies.of_transport(call.transport)
    if not cookie and (peer := cookies.peer_of(call.connection)):
        cookie = cookies.PEERS.cookie(peer)
    if cookie:
        span.set_attribute(cookies.ATTRIBUTE, cookie)


@contextlib.contextmanager
def traced(call: Call, clock: Callable[[], float], *, recorded: bool = True) -> Iterator[Outcome]:
    """Run a handler within a span; afterwards the outcome says how it went. Nothing gets out but
    cancellation. The span is recorded only when its trace is sampled; `recorded` is False for calls
    that come with every tick."""
    outcome = Outcome()
    parent = {"traceparent": call.trace_parent} if call.trace_parent else None
    opened = (
        telemetry.span(call.method, kind="server", parent=parent)
        if recorded
        else telemetry.unrecorded(parent)
    )
    with opened as span:
        tell_socket(span, call)
        try:
            yield outcome
        except Exception as fault:
            outcome.error = to_error(fault, call, clock())
        code = errors.Code.OK if outcome.error is None else outcome.error.code
        span.set_attribute("rpc.grpc.status_code", int(code))


async def contained(run: Callable[[], Coroutine[Any, Any, None]], fail: Callable[[], None]) -> None:
    """Run an edge's own task: what escapes is logged and costs one connection, not the process.

    `run` makes the coroutine here, so that a task cancelled before its first step leaves none over.
    """
    try:
        await run()
    except Exception:
        logger.exception("edge_failed")
        fail()


def malformed_message() -> errors.InvalidArgument:
    """Return the refusal of bytes that are not the request's message."""
    return errors.InvalidArgument("MESSAGE_MALFORMED", "the message cannot be decoded")


def request_late() -> errors.DeadlineExceeded:
    """Return the refusal of a request that does not get to its end."""
    return errors.DeadlineExceeded("REQUEST_TIMEOUT", "the request took too long to arrive")


def deadline() -> errors.DeadlineExceeded:
    """Return the error of a call that took too long."""
    return errors.DeadlineExceeded("DEADLINE", "the call took longer than its deadline")


def stream_age() -> errors.Unavailable:
    """Return the end of a stream that lived as long as streams may."""
    return errors.Unavailable("STREAM_AGE", "please open the stream again", retry_after_s=0.0)


def draining() -> errors.Unavailable:
    """Return the end of whatever is open while the process stops."""
    return errors.Unavailable("DRAINING", "this gateway is stopping", retry_after_s=0.0)
