"""The OpenTelemetry backend of `telemetry`: batches to OTLP/gRPC, W3C context only.

Uses opentelemetry-instrumentation-grpc on internal servers and channels: its cost is per call
(about 100 µs), not per message, and stream handlers must be async generators. Sampling follows the
parent; `ratio` decides for traces that start here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rallypoint.kit import cookies, telemetry, telemetry_signals

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_PEER_IP, _PEER_PORT = "net.peer.ip", "net.peer.port"  # as the instrumentation of gRPC writes them
_PROPAGATOR = TraceContextTextMapPropagator()


class SocketCookies(SpanProcessor):
    """Has the spans of internal servers name the socket of their call, which gRPC hides."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Called for recorded spans alone."""
        told = span.attributes or {}
        address, port = told.get(_PEER_IP), told.get(_PEER_PORT)
        if span.kind is trace.SpanKind.SERVER and address and port:
            peer = cookies.peer_of(f"ipv4:{address}:{port}")
            if peer is not None and (cookie := cookies.PEERS.cookie(peer)):
                span.set_attribute(cookies.ATTRIBUTE, cookie)


class Otlp:
    """Spans that are recorded and sent."""

    def __init__(self, provider: TracerProvider, ratio: float, others: Sequence[Signal]) -> None:
        """`others` are stopped with the traces."""
        self._provider = provider
        self._tracer = provider.get_tracer("rallypoint")
        self._others = others
        self._below = ratio * 2**32

    def decide(self, trace_id: str) -> bool:
        """Tell whether a client's trace is recorded.

        Python's hash is keyed by the process, so that no client can find ids that always are.
        """
        return hash(trace_id) % 2**32 < self._below

    def inject(self, headers: dict[str, str]) -> None:
        """Write the current context."""
        _PROPAGATOR.inject(headers)

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        *,
        kind: telemetry.Kind,
        parent: telemetry.Carrier | None,
        links: Sequence[telemetry.Carrier],
        attributes: telemetry.Attributes | None,
    ) -> Iterator[telemetry.Span]:
        """Open a span and make it current."""
        with self._tracer.start_as_current_span(
            name,
            context=_context_of(parent),
            kind=_KINDS[kind],
            links=[trace.Link(remote) for carrier in links if (remote := _remote(carrier))],
            attributes=attributes,
        ) as running:
            yield running

    def trace_id(self) -> str:
        """Return 32 hex digits or an empty text."""
        current = trace.get_current_span().get_span_context()
        return trace.format_trace_id(current.trace_id) if current.is_valid else ""

    def server_interceptors(self) -> list[Any]:
        """Return grpc.aio server interceptors."""
        return [aio_server_interceptor(tracer_provider=self._provider)]  # type: ignore[no-untyped-call]

    def client_interceptors(self) -> list[Any]:
        """Return grpc.aio client interceptors."""
        return list(aio_client_interceptors(tracer_provider=self._provider))  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """Flush and stop."""
        for signal in self._others:
            signal.stop()
        self._provider.shutdown()


class Signal(Protocol):
    """Metrics or logs on their way out."""

    def stop(self) -> None:
        """Send what is left and end."""


def start(
    *,
    endpoint: str,
    service: str,
    instance: str,
    environment: str,
    ratio: float,
    signals: Collection[str],
    metrics_every_s: float,
) -> Otlp:
    """Return a running backend that sends to `endpoint`."""
    resource = Resource.create(
        {
            "service.name": f"rallypoint-{service}",
            "service.namespace": "rallypoint",
            "service.instance.id": instance,
            "deployment.environment.name": environment,
        }
    )
    where = _with_scheme(endpoint)
    share = ratio if "traces" in signals else 0.0
    provider = TracerProvider(
        resource=resource, sampler=ParentBasedTraceIdRatio(share), shutdown_on_exit=False
    )
    provider.add_span_processor(SocketCookies())
    exporter = OTLPSpanExporter(endpoint=where, insecure=True, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    propagate.set_global_textmap(_PROPAGATOR)
    others: list[Signal] = []
    if "metrics" in signals:
        others.append(telemetry_signals.Metrics(where, resource, every_s=metrics_every_s))
    if "logs" in signals:
        handler = telemetry_signals.Logs(where, resource)
        logging.getLogger().addHandler(handler)
        others.append(handler)
    return Otlp(provider, share, others)


def _context_of(parent: telemetry.Carrier | None) -> context.Context | None:
    """Return the parent's context; None (the current one) when it carries none."""
    if not parent or "traceparent" not in parent:
        return None
    return _PROPAGATOR.extract(dict(parent))


def _remote(carrier: telemetry.Carrier) -> trace.SpanContext | None:
    found = trace.get_current_span(_PROPAGATOR.extract(dict(carrier))).get_span_context()
    return found if found.is_valid else None


def _with_scheme(endpoint: str) -> str:
    return endpoint if "://" in endpoint else f"http://{endpoint}"
