"""What `/metrics` shows goes out over OTLP as it is; the edge decides what is recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rallypoint.kit import telemetry, telemetry_signals

IDS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


def converted(registry: CollectorRegistry) -> dict[str, export.Metric]:
    return {m.name: m for m in telemetry_signals.converted(registry.collect(), (1, 2))}


def test_counters_and_gauges_keep_names_and_labels() -> None:
    registry = CollectorRegistry()
    Counter("calls", "c", ["method"], registry=registry).labels("Join").inc(3)
    Gauge("rooms", "g", registry=registry).set(7)
    found = converted(registry)
    (calls,), (rooms,) = found["calls_total"].data.data_points, found["rooms"].data.data_points
    assert (dict(calls.attributes), calls.value) == ({"method": "Join"}, 3)
    assert found["calls_total"].data.is_monotonic
    assert rooms.value == 7


def test_histograms_are_counted_between_bounds() -> None:
    registry = CollectorRegistry()
    waits = Histogram("wait", "h", ["queue"], buckets=(1, 2, 5), registry=registry)
    for took in (0.5, 1.5, 1.7, 9.0):
        waits.labels("a").observe(took)
    (point,) = converted(registry)["wait"].data.data_points
    assert dict(point.attributes) == {"queue": "a"}
    assert list(point.explicit_bounds) == [1, 2, 5]
    assert list(point.bucket_counts) == [1, 2, 0, 1]
    assert (point.count, point.sum) == (4, 12.7)


def test_labels_without_observations_are_left_out() -> None:
    registry = CollectorRegistry()
    Histogram("wait", "h", ["queue"], registry=registry)
    assert converted(registry) == {}


class FailsOnce(Collector):
    """As a gauge does that reads what changes meanwhile."""

    def __init__(self) -> None:
        self.reads = 0
        self.read_again = threading.Event()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self.reads += 1
        if self.reads == 1:
            raise RuntimeError("dictionary changed size during iteration")
        self.read_again.set()
        return []


def test_metrics_go_on_after_a_read_that_failed() -> None:
    collector = FailsOnce()
    REGISTRY.register(collector)
    refusing = grpc.server(ThreadPoolExecutor(1))  # where nobody listens is tried for seconds
    port = refusing.add_insecure_port("127.0.0.1:0")
    refusing.start()
    try:
        sent = telemetry_signals.Metrics(f"127.0.0.1:{port}", Resource({}), every_s=0.01)
        assert collector.read_again.wait(10)
        sent.stop()
    finally:
        refusing.stop(None)
        REGISTRY.unregister(collector)


def test_who_logs_does_not_fail_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    handler = telemetry_signals.Logs("127.0.0.1:1", Resource({}))
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 1, "%d", ("no number",), None))
    handler.stop()
    assert "Logging error" in capsys.readouterr().err


@pytest.fixture
def ratio(request: pytest.FixtureRequest) -> Iterator[float]:
    telemetry.setup(
        endpoint="127.0.0.1:1", service="t", instance="t", environment="t", ratio=request.param
    )
    yield request.param
    telemetry.shutdown()


@pytest.mark.parametrize("ratio", [0.0, 1.0], indirect=True)
@pytest.mark.parametrize("flag", ["00", "01", "ff"])
def test_edge_keeps_ids_and_decides_itself(ratio: float, flag: str) -> None:
    assert telemetry.edge_parent(f"{IDS}-{flag}") == f"{IDS}-{'01' if ratio else '00'}"


@pytest.mark.parametrize("ratio", [0.25], indirect=True)
def test_edge_records_a_share_of_traces_and_each_trace_whole(ratio: float) -> None:
    traces = [f"00-{number:032x}-b7ad6b7169203331-01" for number in range(1, 2001)]
    taken = [telemetry.edge_parent(trace).endswith("01") for trace in traces]
    assert taken == [telemetry.edge_parent(trace).endswith("01") for trace in traces]
    assert 350 < sum(taken) < 650


def test_without_an_endpoint_nothing_is_recorded() -> None:
    assert telemetry.edge_parent(f"{IDS}-01") == f"{IDS}-00"
    assert telemetry.edge_parent("00-malformed") == ""
