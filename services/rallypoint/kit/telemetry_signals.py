"""Metrics and logs over OTLP/gRPC, beside the traces of `telemetry_otlp`.

Metrics are those of `kit.metrics`, under the same names that `/metrics` shows: the hot paths count
with prometheus_client, a tenth of the cost of OpenTelemetry's instruments, and a thread reads the
registry now and then. Logs are the events of `kit.logs` with their fields.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from rallypoint.kit import logs

log = logging.getLogger(__name__)
STOP_S = 3.0
_SCOPE = InstrumentationScope("rallypoint")
_CUMULATIVE = export.AggregationTemporality.CUMULATIVE
_SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
_OWN = ("opentelemetry", "grpc")
"""What the exporter itself logs is not sent: a collector that is away would make more of it."""


class Logs(logging.Handler):
    """Sends what is logged."""

    def __init__(self, endpoint: str, resource: Resource) -> None:
        super().__init__()
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPLogExporter(endpoint=endpoint, insecure=True, timeout=5)
        self._provider.add_log_record_processor(
            BatchLogRecordProcessor(exporter, schedule_delay_millis=1000)
        )
        self._logger = self._provider.get_logger("rallypoint")

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record; the trace and span are those of the current context."""
        if record.name.partition(".")[0] in _OWN:
            return
        try:
            self._queue(record)
        except Exception:  # who logs is not to fail for it
            self.handleError(record)

    def _queue(self, record: logging.LogRecord) -> None:
        fields = {key: _plain(value) for key, value in logs.fields(record).items()}
        self._logger.emit(
            timestamp=int(record.created * 1e9),
            severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.INFO),
            severity_text=record.levelname,
            body=record.getMessage(),
            attributes={"logger": record.name, **fields},
            exception=record.exc_info[1] if record.exc_info else None,
        )

    def stop(self) -> None:
        """Send what is queued."""
        self._provider.shutdown()


class Metrics:
    """Sends the registry every so often, from a thread of its own."""

    def __init__(self, endpoint: str, resource: Resource, *, every_s: float) -> None:
        self._exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, timeout=5)
        self._resource = resource
        self._every_s = every_s
        self._began_ns = time.time_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send once more and end."""
        self._stopping.set()
        self._thread.join(STOP_S)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._try()
        self._try()

    def _try(self) -> None:
        """Gauges read what the loop owns, and it may change meanwhile: the next time will do."""
        try:
            self._send()
        except Exception as error:
            log.warning("metrics are not sent this time: %r", error)

    def _send(self) -> None:
        moment = (self._began_ns, time.time_ns())
        scope = export.ScopeMetrics(_SCOPE, list(converted(REGISTRY.collect(), moment)), "")
        self._exporter.export(
            export.MetricsData([export.ResourceMetrics(self._resource, [scope], "")])
        )


def converted(found: Iterable[Metric], moment: tuple[int, int]) -> Iterator[export.Metric]:
    """Metrics of prometheus_client as OTLP has them; `moment` is the start and now, in ns."""
    for metric in found:
        data: export.Sum | export.Gauge | export.Histogram | None = None
        if metric.type == "counter":
            points = _numbers(metric, moment, suffix="_total")
            data = export.Sum(points, _CUMULATIVE, is_monotonic=True)
        elif metric.type == "gauge":
            data = export.Gauge(_numbers(metric, moment, suffix=""))
        elif metric.type == "histogram":
            data = export.Histogram(_histograms(metric, moment), _CUMULATIVE)
        if data is not None and data.data_points:
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            yield export.Metric(name, metric.documentation, "", data)


def _numbers(
    metric: Metric, moment: tuple[int, int], *, suffix: str
) -> list[export.NumberDataPoint]:
    return [
        export.NumberDataPoint(dict(sample.labels), *moment, sample.value)
        for sample in metric.samples
        if sample.name == metric.name + suffix
    ]


def _histograms(metric: Metric, moment: tuple[int, int]) -> list[export.HistogramDataPoint]:
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in metric.samples:
        labels = tuple(pair for pair in sample.labels.items() if pair[0] != "le")
        series.setdefault(labels, []).append(sample)
    return [_histogram(metric.name, dict(key), found, moment) for key, found in series.items()]


def _histogram(
    name: str, labels: dict[str, str], samples: Sequence[Sample], moment: tuple[int, int]
) -> export.HistogramDataPoint:
    """One series: Prometheus counts what is at most a bound, OTLP what is between two."""
    buckets = [(float(s.labels["le"]), int(s.value)) for s in samples if s.name == f"{name}_bucket"]
    counts = [count for _, count in buckets]
    return export.HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=moment[0],
        time_unix_nano=moment[1],
        count=counts[-1] if counts else 0,
        sum=next((s.value for s in samples if s.name == f"{name}_sum"), 0.0),
        bucket_counts=[count - before for before, count in zip([0, *counts], counts, strict=False)],
        explicit_bounds=[bound for bound, _ in buckets[:-1]],
        min=float("nan"),
        max=float("nan"),
    )


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
