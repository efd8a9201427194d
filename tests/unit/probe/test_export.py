"""What scrapers and collectors get, read by their own libraries."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client.parser import text_string_to_metric_families

from rallypoint.probe.domain import exposition, histogram, layout, metrics, otlp, own, pods, series
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner
from rallypoint.probe.domain.retention import Retention

POD = Owner("kubepods/pod1/c1", "0b6c1f9e-2f0a-4f9b-8a35-6f1f0d2f8a11", "c" * 64)
KEY = series.SeriesKey(POD, "tcp", 7001, "server")
POINTS = [
    own.Point(metrics.MODE, 1, (("mode", "full"),)),
    own.Point(metrics.TROUBLE, 2, (("kind", "stale"),), counter=True),
]


def one(key: series.SeriesKey = KEY, rtt: tuple[int, ...] = (), **counters: int) -> series.Series:
    buckets = [0] * histogram.BUCKETS
    for bucket in rtt:
        buckets[bucket] += 1
    histograms = dict.fromkeys(layout.HISTOGRAMS, histogram.EMPTY)
    histograms["rtt"] = histogram.Histogram(len(rtt) * 10**6, buckets)
    return series.Series(key, 1000, {**dict.fromkeys(layout.COUNTERS, 0), **counters}, histograms)


def test_prometheus_reads_octaves_that_add_up() -> None:
    text = exposition.text([one(rtt=(100, 101, 200), established=3, retransmits=4)], POINTS)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["rallypoint_tcp_rtt_seconds"].samples
    counts = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert counts["+Inf"] == 3
    assert counts["7.62939453125e-06"] == 0
    assert counts["0.0009765625"] == 2  # 2^-10: buckets 100 and 101 end at 2^(-82/8) and below
    assert list(counts.values()) == sorted(counts.values())
    told = samples[0].labels
    assert told["pod_uid"] == POD.pod_uid
    assert (told["role"], told["port"], told["transport"]) == ("server", "7001", "tcp")
    (made,) = families["rallypoint_tcp_connection_count"].samples
    assert (made.labels["outcome"], made.value) == ("established", 3)
    assert families["rallypoint_tcp_retransmits"].samples[0].value == 4
    assert families["rallypoint_probe_trouble"].samples[0].labels == {"kind": "stale"}


def named(owner: Owner) -> pods.Named:
    return pods.Named("games", "arena-0", "game", "arena") if owner == POD else pods.NAMELESS


def test_pods_are_told_by_name_where_names_are_known() -> None:
    text = exposition.text([one(rtt=(100,)), one(KEY._replace(owner=UNKNOWN), rtt=(1,))], [], named)
    pod, unknown = (
        sample.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rallypoint_tcp_rtt_seconds_count"
    )
    assert (pod["pod_namespace"], pod["pod_name"], pod["container_name"]) == (
        "games",
        "arena-0",
        "game",
    )
    assert "pod_name" not in unknown
    body = otlp.request([one(rtt=(100,))], [], [], {}, otlp.Clock(10_000, 500), named)
    resource = ExportMetricsServiceRequest.FromString(body).resource_metrics[0].resource
    told = {a.key: a.value.string_value for a in resource.attributes}
    assert told["k8s.pod.name"] == "arena-0"
    assert told["service.name"] == "arena"


def pushed(found: list[series.Series], events: list[layout.Event]) -> ExportMetricsServiceRequest:
    clock = otlp.Clock(now_ns=10_000, offset_ns=500)
    told = [(KEY, event) for event in events]
    body = otlp.request(found, POINTS, told, {"k8s.node.name": "n1"}, clock)
    return ExportMetricsServiceRequest.FromString(body)


def test_a_push_holds_exponential_histograms_per_pod() -> None:
    request = pushed([one(rtt=(100, 101, 101)), one(KEY._replace(port=7002), closed=2)], [])
    pod, itself = request.resource_metrics
    told = {a.key: a.value.string_value for a in pod.resource.attributes}
    assert told == {
        "k8s.node.name": "n1", "k8s.pod.uid": POD.pod_uid, "container.id": POD.container_id,
    }  # fmt: skip
    rtt, count = pod.scope_metrics[0].metrics
    (point,) = rtt.exponential_histogram.data_points
    assert (rtt.name, rtt.unit) == ("rallypoint.tcp.rtt", "s")
    assert rtt.exponential_histogram.aggregation_temporality == 2
    assert (point.scale, point.count, point.sum) == (3, 3, 0.003)
    assert (point.positive.offset, list(point.positive.bucket_counts)) == (-84, [1, 2])
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1500, 10_000)
    attributes = {a.key: a.value.string_value or a.value.int_value for a in point.attributes}
    assert attributes == {
        "network.transport": "tcp", "server.port": 7001, "network.tcp.handshake.role": "server",
    }  # fmt: skip
    assert count.sum.is_monotonic
    assert count.sum.data_points[0].as_int == 2
    names = [metric.name for metric in itself.scope_metrics[0].metrics]
    assert names == ["rallypoint.probe.mode", "rallypoint.probe.trouble"]


def test_a_slow_round_trip_is_an_exemplar_with_the_sockets_cookie() -> None:
    kinds = (layout.EventKind.SLOW, layout.EventKind.RETRANSMIT)
    events = [layout.Event(2**63 + 5, 600, 250_000_000, 7, 0, kind) for kind in kinds]
    request = pushed([one(rtt=(167,))], events)
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram
    (exemplar,) = point.data_points[0].exemplars
    assert exemplar.as_double == 0.25
    assert exemplar.time_unix_nano == 1100
    (attribute,) = exemplar.filtered_attributes
    assert (attribute.key, attribute.value.string_value) == (otlp.COOKIE, str(2**63 + 5))


def slot(index: int, cgroup: int, sends: int) -> layout.Slot:
    key = layout.Key(cgroup, 5, 7001, "tcp", "server")
    empty = dict.fromkeys(layout.HISTOGRAMS, histogram.EMPTY)
    counters = {**dict.fromkeys(layout.COUNTERS, 0), "sends": sends}
    return layout.Slot(index, key, 0, 1, counters, empty)


def test_slots_of_cgroups_that_are_gone_expire_after_a_while() -> None:
    kept = Retention(kept_s=60)
    slots = [slot(0, 1, 5), slot(1, 2, 7)]
    assert kept.expired(slots, lambda cgroup: cgroup == 1, now=0) == []
    assert kept.expired(slots, lambda cgroup: cgroup == 1, now=59) == []
    assert [s.index for s in kept.expired(slots, lambda cgroup: cgroup == 1, now=60)] == [1]
    assert kept.expired(slots, lambda _: True, now=61) == []
    assert kept.expired(slots, lambda _: False, now=62) == []


def test_only_the_unknown_series_outlives_its_slots() -> None:
    kept = Retention()
    kept.freed(slot(0, 1, 5), POD)
    kept.freed(slot(1, 2, 7), UNKNOWN)
    kept.freed(slot(2, 3, 1), UNKNOWN)
    found = kept.with_kept(series.of_slots([slot(3, 4, 2)], lambda _: UNKNOWN))
    assert [(s.key.owner, s.counters["sends"]) for s in found] == [(UNKNOWN, 10)]


def test_ours_and_the_kernels_counts_are_compared_in_one_namespace() -> None:
    slots = [slot(0, 1, 0), slot(1, 2, 0)]
    slots[0].counters["opens"] = 3
    before, now = {"Tcp.PassiveOpens": 10}, {"Tcp.PassiveOpens": 14}
    found = {c.name: c for c in own.compared(before, now, slots, namespace=5)}
    assert found["Tcp.PassiveOpens"] == own.Comparison("Tcp.PassiveOpens", 4, 3)
    assert found["Tcp.ActiveOpens"] == own.Comparison("Tcp.ActiveOpens", 0, 0)
    elsewhere = own.compared(before, now, slots, namespace=6)
    assert {c.probe for c in elsewhere} == {0}


@pytest.mark.parametrize(
    ("born_ns", "sends"), [(1000, 4), (2000, 9)], ids=["the same slot", "a new one"]
)
def test_the_table_shows_what_was_gained(born_ns: int, sends: int) -> None:
    before = {KEY: one(sends=5)}
    late = one(sends=9)
    now = {KEY: series.Series(KEY, born_ns, late.counters, late.histograms)}
    (gained,) = series.gained(before, now)
    assert gained.counters["sends"] == sends
    assert series.gained(now, now) == []
