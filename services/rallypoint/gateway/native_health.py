"""`grpc.health.v1.Health` at the native edge, where anybody may call it.

It is served as our own methods are: who names a service that is none, sends what is no message or
never sends one is refused like any other, and not with a traceback in the log.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from grpc_health.v1 import health_pb2

from rallypoint.gateway import calls
from rallypoint.kit import errors
from rallypoint.kit.health import Health

SERVICE = "/grpc.health.v1.Health/"
MAX_BYTES = 256
WATCHES_MAX = 4
"""Of one connection: a client watches a service or two."""


def methods(source: Health) -> calls.Methods:
    """What the native edge serves of what the process says about itself."""
    watches = _Watches(source)
    request, response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse

    def check(call: calls.Call, asked: Any) -> Any:
        ready = source.is_ready(asked.service)
        if ready is None:
            raise errors.NotFound("SERVICE_UNKNOWN", "there is no such service")
        return response(status=_status(ready))

    open_to_all: Any = {"max_bytes": MAX_BYTES, "public": True}
    return calls.Methods(
        [
            calls.UnaryMethod(SERVICE + "Check", request, response, check, **open_to_all),
            calls.StreamMethod(SERVICE + "Watch", request, response, watches.watch, **open_to_all),
        ]
    )


class _Watches:
    """The streams that are told of changes."""

    def __init__(self, source: Health) -> None:
        self._source = source
        self._open: Counter[str] = Counter()

    async def watch(self, call: calls.Call, asked: Any, outlet: calls.Outlet) -> None:
        """Send the state now and at each change, until the client leaves."""
        if self._open[call.connection] >= WATCHES_MAX:
            raise errors.ResourceExhausted(
                "WATCHES_EXCEEDED", "too many watches over this connection", retry_after_s=1.0
            )
        self._open[call.connection] += 1
        try:
            await self._tell(asked.service, outlet)
        finally:
            self._open[call.connection] -= 1
            if not self._open[call.connection]:
                del self._open[call.connection]

    async def _tell(self, service: str, outlet: calls.Outlet) -> None:
        last: int | None = None
        while True:
            changed = self._source.changed
            now = _status(self._source.is_ready(service))
            if now != last:
                outlet.send(health_pb2.HealthCheckResponse(status=now).SerializeToString())
                last = now
            await changed.wait()


def _status(ready: bool | None) -> Any:  # noqa: FBT001  # a conversion
    states = health_pb2.HealthCheckResponse
    if ready is None:
        return states.SERVICE_UNKNOWN
    return states.SERVING if ready else states.NOT_SERVING
