"""A real OpenTelemetry Collector (tests/tools/otelcol) that writes what it gets to files.

`collector` is the back end; `in_front` is another one with the chart's own configuration.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallypoint.cli.ports import free_one
from tests.support import go
from tests.support.cluster.places import HERE, Place

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "{host}:{port}"}}}}}}}}
exporters:
  file/traces: {{path: "{folder}/spans.jsonl", flush_interval: 200ms}}
  file/metrics: {{path: "{folder}/metrics.jsonl", flush_interval: 200ms}}
  file/logs: {{path: "{folder}/logs.jsonl", flush_interval: 200ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file/traces]}}
    metrics: {{receivers: [otlp], exporters: [file/metrics]}}
    logs: {{receivers: [otlp], exporters: [file/logs]}}
"""
CHART_CONFIG = go.ROOT / "helm" / "rallypoint" / "files" / "collector.yaml"
NODE = "k8s.node.name"
START_S = 20.0


@dataclass(frozen=True, slots=True)
class Span:
    """What the tests look at."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    cookie: str = ""
    """Of the socket that the call came by, if the span tells it."""
    began_s: float = 0.0
    """When, in Unix time."""


@dataclass(frozen=True, slots=True)
class Collector:
    """A running collector."""

    endpoint: str
    folder: Path

    def spans(self) -> list[Span]:
        """All spans received so far."""
        return [span for batch in self._batches("spans") for span in _spans(batch)]

    def metrics(self) -> dict[str, set[str]]:
        """The names of all metrics received so far, by service."""
        found: dict[str, set[str]] = {}
        for batch in self._batches("metrics"):
            for service, scope in _scopes(batch, "resourceMetrics", "scopeMetrics"):
                found.setdefault(service, set()).update(m["name"] for m in scope["metrics"])
        return found

    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        """All log records received so far, each with its service."""
        return [
            (service, record)
            for batch in self._batches("logs")
            for service, scope in _scopes(batch, "resourceLogs", "scopeLogs")
            for record in scope["logRecords"]
        ]

    def _batches(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def _scopes(
    batch: dict[str, Any], resources: str, scopes: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in batch.get(resources, []):
        named = {a["key"]: a["value"] for a in resource["resource"]["attributes"]}
        for scope in resource[scopes]:
            told = named.get("service.name", named.get(NODE, {}))  # a probe's own are of its node
            yield told.get("stringValue", ""), scope


def _spans(batch: dict[str, Any]) -> Iterator[Span]:
    for service, scope in _scopes(batch, "resourceSpans", "scopeSpans"):
        for raw in scope["spans"]:
            links = tuple(link["traceId"] for link in raw.get("links", []))
            parent = raw.get("parentSpanId", "")
            told = {a["key"]: a["value"] for a in raw.get("attributes", [])}
            cookie = told.get("rallypoint.socket.cookie", {}).get("stringValue", "")
            identity = (raw["traceId"], raw["spanId"])
            began_s = int(raw["startTimeUnixNano"]) / 1e9
            yield Span(service, raw["name"], *identity, parent, links, cookie, began_s)


def wait_listening(port: int, host: str = HERE.host) -> None:
    """Wait until something listens."""
    give_up = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        assert time.monotonic() < give_up, "the collector does not listen"
        time.sleep(0.05)


@contextmanager
def collector(folder: Path, place: Place = HERE) -> Iterator[Collector]:
    """Run a collector whose files lie in `folder`, in the network of a place."""
    port = free_one()
    config = folder / "collector.yaml"
    config.write_text(CONFIG.format(host=place.host, port=port, folder=folder))
    with _running(config, port, folder / "collector.log", {}, place):
        yield Collector(f"http://{place.host}:{port}", folder)


@contextmanager
def in_front(backend: Collector) -> Iterator[str]:
    """Run a collector as the chart configures it, in front of another; its endpoint."""
    port = free_one()
    settings = {
        "LISTEN_HOST": "127.0.0.1",
        "OTLP_GRPC_PORT": str(port),
        "OTLP_HTTP_PORT": str(free_one()),
        "HEALTH_PORT": str(free_one()),
        "OTLP_BACKEND": backend.endpoint.removeprefix("http://"),
        "OTLP_BACKEND_INSECURE": "true",
        "TRACES_KEPT_PERCENT": "100",
        "TRACES_DECIDED_AFTER": "2s",
    }
    with _running(CHART_CONFIG, port, backend.folder / "in-front.log", settings):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(
    config: Path, port: int, log: Path, settings: dict[str, str], place: Place = HERE
) -> Iterator[None]:
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*place.enter, str(go.tool("otelcol")), "--config", f"file:{config}"],
            stdout=written,
            stderr=written,
            env={**os.environ, **settings},
        )
    try:
        wait_listening(port, place.host)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
