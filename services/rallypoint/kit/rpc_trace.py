"""A channel that hands on the trace of the request it serves, when nobody records spans.

Each call with a single request gets the caller's `traceparent`, so that the logs of one request
share a trace id in all services. It is a wrapper, 0.6 µs a call, and not an interceptor of
grpc.aio, which would start a task per call (25 µs, one core, best of 25 runs). A call with a stream
of requests serves many callers over its life and belongs to none of their traces; it is left alone.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from rallypoint.kit import telemetry


class HandingOn(grpc.aio.Channel):
    """A channel of grpc.aio and its calls, each with the present traceparent."""

    def __init__(self, inner: grpc.aio.Channel) -> None:
        self._inner = inner

    async def __aenter__(self) -> HandingOn:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._inner.__aexit__(*error)

    async def close(self, grace: float | None = None) -> None:
        """Close it and its calls."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002  # gRPC's
        """Return how the connection is."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the connection is no longer as it was."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return once it is connected."""
        await self._inner.channel_ready()

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """Return what calls a method; it hands the trace on."""
        return _Traced(self._inner.unary_unary(*method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """Return what calls a method; it hands the trace on."""
        return _Traced(self._inner.unary_stream(*method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """Return what calls a method."""
        return self._inner.stream_unary(*method, **options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """Return what calls a method."""
        return self._inner.stream_stream(*method, **options)


class _Traced:
    """A method of a channel. Called as gRPC's own is."""

    __slots__ = ("_method",)

    def __init__(self, method: Any) -> None:
        self._method = method

    def __call__(self, request: Any, *, metadata: Any = None, **options: Any) -> Any:
        if trace := telemetry.inject({}):
            metadata = (*(metadata or ()), *trace.items())
        return self._method(request, metadata=metadata, **options)
