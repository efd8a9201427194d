"""A real OpenTelemetry Collector (tests/tools/otelcol) that writes the spans it gets to a file."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import go

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{file: {{path: "{path}", flush_interval: 200ms}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
"""
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


@dataclass(frozen=True, slots=True)
class Collector:
    """A running collector."""

    endpoint: str
    path: Path

    def spans(self) -> list[Span]:
        """All spans received so far."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [span for line in whole for span in _spans(json.loads(line))]


def _spans(batch: dict) -> Iterator[Span]:  # type: ignore[type-arg]
    for resource in batch.get("resourceSpans", []):
        named = {a["key"]: a["value"] for a in resource["resource"]["attributes"]}
        service = named["service.name"]["stringValue"]
        for scope in resource["scopeSpans"]:
            for raw in scope["spans"]:
                links = tuple(link["traceId"] for link in raw.get("links", []))
                parent = raw.get("parentSpanId", "")
                told = {a["key"]: a["value"] for a in raw.get("attributes", [])}
                cookie = told.get("rallypoint.socket.cookie", {}).get("stringValue", "")
                identity = (raw["traceId"], raw["spanId"])
                yield Span(service, raw["name"], *identity, parent, links, cookie)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_listening(port: int) -> None:
    """Wait until something listens."""
    give_up = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < give_up, "the collector does not listen"
        time.sleep(0.05)


@contextmanager
def collector(folder: Path) -> Iterator[Collector]:
    """Run a collector whose files lie in `folder`."""
    port = free_port()
    spans = folder / "spans.jsonl"
    config = folder / "collector.yaml"
    config.write_text(CONFIG.format(port=port, path=spans))
    with (folder / "collector.log").open("wb") as log:
        command = [str(go.tool("otelcol")), "--config", f"file:{config}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_listening(port)
        yield Collector(f"http://127.0.0.1:{port}", spans)
    finally:
        process.terminate()
        process.wait(timeout=10)
