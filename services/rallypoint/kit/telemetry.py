"""Tracing behind one small interface; OpenTelemetry is imported only when an endpoint is set.

Without an endpoint every span is a no-op, but the trace id of an incoming W3C `traceparent` is kept
for the logs and handed on by `inject`. With one, `telemetry_otlp` exports over OTLP/gRPC.
Sampling is decided at the edge and obeyed after that: of a client's `traceparent` the ids are kept,
its flag is not (`edge_parent`). Never one span per tick, input or frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, Protocol

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
Attributes = Mapping[str, Value]
Carrier = Mapping[str, str]

_TRACEPARENT_LENGTH = 55  # 00-<32 hex>-<16 hex>-<2 hex>
_incoming: ContextVar[str] = ContextVar("traceparent", default="")


class Span(Protocol):
    """What callers may do to a running span."""

    def set_attribute(self, key: str, value: Value) -> None:
        """Set one attribute."""

    def add_event(self, name: str, attributes: Attributes | None = None) -> None:
        """Record a moment."""


class _NoSpan:
    def set_attribute(self, key: str, value: Value) -> None:
        return

    def add_event(self, name: str, attributes: Attributes | None = None) -> None:
        return


class Backend(Protocol):
    """What `telemetry_otlp` provides."""

    def inject(self, headers: dict[str, str]) -> None:
        """Write the current context."""

    def span(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Carrier | None,
        links: Sequence[Carrier],
        attributes: Attributes | None,
    ) -> contextlib.AbstractContextManager[Span]:
        """Open a span."""

    def decide(self, trace_id: str) -> bool:
        """Tell whether a trace that a client began is recorded; always the same in a process."""

    def trace_id(self) -> str:
        """Return 32 hex digits or an empty text."""

    def server_interceptors(self) -> list[Any]:
        """Return grpc.aio server interceptors."""

    def client_interceptors(self) -> list[Any]:
        """Return grpc.aio client interceptors."""

    def shutdown(self) -> None:
        """Flush and stop; blocks up to the exporter's timeout."""


_NO_SPAN = _NoSpan()
_backend: Backend | None = None


def setup(
    *,
    endpoint: str,
    service: str,
    instance: str,
    environment: str,
    ratio: float,
    signals: Collection[str] = ("traces",),
    metrics_every_s: float = 15.0,
) -> None:
    """Start exporting to `endpoint` (host:port or URL, plaintext gRPC); nothing if it is empty."""
    global _backend
    if not endpoint:
        return
    from rallypoint.kit import telemetry_otlp  # 0.3 s of imports nobody else pays

    _backend = telemetry_otlp.start(
        endpoint=endpoint,
        service=service,
        instance=instance,
        environment=environment,
        ratio=ratio,
        signals=signals,
        metrics_every_s=metrics_every_s,
    )


def shutdown() -> None:
    """Flush what is buffered. Blocks; call it in a thread or after the loop ended."""
    global _backend
    if _backend is not None:
        _backend.shutdown()
        _backend = None


def enabled() -> bool:
    """Tell whether spans are recorded at all."""
    return _backend is not None


def inject(headers: dict[str, str]) -> dict[str, str]:
    """Write the current trace context into `headers` and return them."""
    if _backend is not None:
        _backend.inject(headers)
    elif traceparent := _incoming.get():
        headers["traceparent"] = traceparent
    return headers


@contextlib.contextmanager
def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: Carrier | None = None,
    links: Sequence[Carrier] = (),
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """Open a span; `parent` and `links` are headers or metadata that may hold a traceparent.

    Without `parent` the current span is the parent. Names have low cardinality: ids go into
    attributes. Do not hold one open across a `yield` of a long stream.
    """
    if _backend is not None:
        with _backend.span(
            name, kind=kind, parent=parent, links=links, attributes=attributes
        ) as running:
            yield running
        return
    with unrecorded(parent) as nothing:
        yield nothing


@contextlib.contextmanager
def unrecorded(parent: Carrier | None) -> Iterator[Span]:
    """Stand in for a span where one would be too many: only the trace id is kept, for the logs."""
    with received(parent or {}):
        yield _NO_SPAN


def edge_parent(traceparent: str) -> str:
    """Return a client's traceparent with our own decision as its flag; "" if it is malformed.

    Were its flag obeyed, players could have every call of theirs recorded.
    """
    if not is_traceparent(traceparent):
        return ""
    sampled = _backend is not None and _backend.decide(traceparent[3:35])
    return f"{traceparent[:53]}{'01' if sampled else '00'}"


@contextlib.contextmanager
def received(carrier: Carrier) -> Iterator[None]:
    """Make the traceparent of `carrier`, if it has a valid one, that of this task's logs."""
    traceparent = carrier.get("traceparent", "")
    if not is_traceparent(traceparent):
        yield
        return
    token = _incoming.set(traceparent)
    try:
        yield
    finally:
        # A generator closed from another task has another context, and nothing to restore there.
        with contextlib.suppress(ValueError):
            _incoming.reset(token)


def is_traceparent(value: str) -> bool:
    """Tell whether `value` has the shape of a W3C traceparent of version 00."""
    return (
        len(value) == _TRACEPARENT_LENGTH
        and value.startswith("00-")
        and value[35] == value[52] == "-"
        and all(digit in "0123456789abcdef-" for digit in value)
        and value[3:35].strip("0") != ""
    )


def trace_id() -> str:
    """Return the current trace id, 32 hex digits, or an empty text."""
    if _backend is not None and (current := _backend.trace_id()):
        return current
    return _incoming.get()[3:35]


def server_interceptors() -> list[Any]:
    """Return the interceptors of internal gRPC servers; empty when tracing is off."""
    return [] if _backend is None else _backend.server_interceptors()


def client_interceptors() -> list[Any]:
    """Return the interceptors of internal channels; empty when tracing is off."""
    return [] if _backend is None else _backend.client_interceptors()
