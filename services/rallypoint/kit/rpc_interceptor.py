"""The server side of `rpc`: errors to statuses, trace ids to logs, call durations, and health.

Each handler is wrapped once and kept by method, so a call pays for no look-up of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rallypoint.kit import errors, health, metrics, status, telemetry, waiting

logger = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_WATCH_PERIOD_S = 30.0


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the wrapped handler of a method; None for a method nobody serves."""
        method: str = handler_call_details.method
        found = self._wrapped.get(method)
        if found is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            found = self._wrapped[method] = _wrap(method, handler)
        return found


def _wrap(method: str, handler: Any) -> Any:
    wrapper: Callable[[str, Any], Any] = _stream if handler.response_streaming else _unary
    kind = "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )
    name = method.rsplit(".", 1)[-1]
    return handler._replace(**{kind: wrapper(name, getattr(handler, kind))})


def _unary(name: str, behavior: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    ok = metrics.RPC_SECONDS.labels(name, "OK")

    async def call(request: Any, context: Any) -> Any:
        started = time.perf_counter()
        with telemetry.received(_carrier(context)):
            try:
                response = await behavior(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                seen = _seen(name, error)
                elapsed = time.perf_counter() - started
                metrics.RPC_SECONDS.labels(name, seen.code.name).observe(elapsed)
                await _abort(context, seen)
        ok.observe(time.perf_counter() - started)
        return response

    return call


def _stream(name: str, behavior: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        with telemetry.received(_carrier(context)):
            try:
                async for response in behavior(request, context):
                    yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, _seen(name, error))

    return call


def _carrier(context: Any) -> dict[str, str]:
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            return {"traceparent": value}
    return {}


def _seen(name: str, error: Exception) -> errors.RallypointError:
    """Return what the caller is told; what we did not expect is logged and hidden."""
    if isinstance(error, errors.RallypointError):
        return error
    if isinstance(error, TimeoutError):
        return errors.DeadlineExceeded("DEADLINE_EXCEEDED", "the call took too long")
    logger.error("rpc_failed", exc_info=error, extra={"method": name})
    metadata = {"trace_id": found} if (found := telemetry.trace_id()) else {}
    return errors.Internal("INTERNAL", "an internal error occurred", metadata=metadata)


async def _abort(context: Any, error: errors.RallypointError) -> NoReturn:
    details = (("grpc-status-details-bin", status.to_details(error)),)
    await context.abort(_CODES[int(error.code)], error.message, trailing_metadata=details)
    raise AssertionError("abort raises")


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no types
    """`grpc.health.v1.Health` answered from `kit.health`."""

    def __init__(self, source: health.Health) -> None:
        self._source = source

    async def Check(self, request: Any, context: Any) -> Any:  # gRPC's name
        """Answer whether a service takes work; NOT_FOUND for one we do not know."""
        if (ready := self._source.is_ready(request.service)) is None:
            raise errors.NotFound("SERVICE_UNKNOWN", f"no service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=_serving(ready))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the state now and at each change."""
        last: int | None = None
        while True:
            changed = self._source.changed
            ready = self._source.is_ready(request.service)
            now = 3 if ready is None else _serving(ready)  # 3 = SERVICE_UNKNOWN
            if now != last:
                yield health_pb2.HealthCheckResponse(status=now)
                last = now
            await waiting.happens(changed, _WATCH_PERIOD_S)


def _serving(ready: bool) -> int:  # noqa: FBT001  # a conversion
    return 1 if ready else 2  # SERVING, NOT_SERVING


def add_health(server: grpc.aio.Server, source: health.Health) -> None:
    """Add the health service to a server."""
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(source), server)
