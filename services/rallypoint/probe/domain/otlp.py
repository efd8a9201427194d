"""OTLP metrics as protobuf bytes, written by hand: the runtime would double our memory.

Histograms go out as they were counted in the kernel (scale 3, cumulative since the slot was
taken). A slow round trip is an exemplar with the attribute `rallypoint.socket.cookie`: the span of
whoever owns the socket has the same one, and with it the trace id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rallypoint.probe.domain import calls, histogram, layout, metrics, own, pods, series
from rallypoint.probe.domain.cgroups import Owner

COOKIE: Final = "rallypoint.socket.cookie"
_CUMULATIVE: Final = 2
_VARINT, _FIXED64, _BYTES = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Clock:
    """When it is, and how far the kernel's monotonic clock is from it."""

    now_ns: int
    offset_ns: int


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _part(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _part(field, value.encode())


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<Q", value & 0xFFFF_FFFF_FFFF_FFFF)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _attributes(field: int, told: Mapping[str, str | int]) -> bytes:
    out = b""
    for key, value in told.items():
        shown = _text(1, value) if isinstance(value, str) else _number(3, value)
        out += _part(field, _text(1, key) + _part(2, shown))
    return out


def request(
    found: Iterable[series.Series],
    points: Iterable[own.Point],
    events: Sequence[tuple[series.SeriesKey, layout.Event]],
    resource: Mapping[str, str],
    clock: Clock,
    names: pods.Names = pods.nobody,
    followed: Iterable[calls.CallSeries] = (),
) -> bytes:
    """An ExportMetricsServiceRequest: a resource per owner, and one for the probe itself."""
    owners: dict[Owner, list[series.Series]] = {}
    for one in found:
        owners.setdefault(one.key.owner, []).append(one)
    callers: dict[Owner, list[calls.CallSeries]] = {}
    for call in followed:
        callers.setdefault(call.owner, []).append(call)
    out = b""
    for owner in {**owners, **callers}:
        group = owners.get(owner, [])
        body = b"".join(
            _series_histogram(name, group, events, clock) for name in metrics.HISTOGRAMS
        )
        body += b"".join(_series_counters(group, clock))
        body += b"".join(_calls(callers.get(owner, []), clock))
        out += _resource({**resource, **_owner(owner, names)}, body)
    return out + _resource(resource, b"".join(_points(points, clock)))


def _owner(owner: Owner, names: pods.Names) -> dict[str, str]:
    named = names(owner)
    told = {
        "k8s.namespace.name": named.namespace,
        "k8s.pod.name": named.pod,
        "k8s.container.name": named.container,
        "k8s.pod.uid": owner.pod_uid,
        "container.id": owner.container_id,
        "service.name": named.service if owner.pod_uid else owner.name,
    }
    return {name: value for name, value in told.items() if value}


def _resource(told: Mapping[str, str], body: bytes) -> bytes:
    scope = _part(1, _text(1, "rallypoint.probe"))
    return _part(1, _part(1, _attributes(1, told)) + _part(2, scope + body))


def _attributes_of(key: series.SeriesKey) -> dict[str, str | int]:
    told: dict[str, str | int] = {"network.transport": key.transport, "server.port": key.port}
    if key.transport == "tcp":
        told["network.tcp.handshake.role"] = key.role
    if key.bank:
        told["rallypoint.probe.version"] = "canary"
    return told


def _metric(metric: metrics.Metric, field: int, body: bytes) -> bytes:
    head = _text(1, metric.name) + _text(2, metric.text) + _text(3, metric.unit)
    return _part(2, head + _part(field, body))


def _series_histogram(
    name: str,
    group: Sequence[series.Series],
    events: Sequence[tuple[series.SeriesKey, layout.Event]],
    clock: Clock,
) -> bytes:
    body = b""
    for one in group:
        values = one.histograms[name]
        if not values.count:
            continue
        point = _attributes(1, _attributes_of(one.key)) + _histogram_point(values)
        point += _fixed(2, one.born_ns + clock.offset_ns) + _fixed(3, clock.now_ns)
        if name == "rtt":
            slow = (e for key, e in events if key == one.key and e.kind is layout.EventKind.SLOW)
            point += b"".join(_exemplar(event, clock) for event in slow)
        body += _part(1, point)
    if not body:
        return b""
    return _metric(metrics.HISTOGRAMS[name], 10, body + _number(2, _CUMULATIVE))


def _calls(group: Iterable[calls.CallSeries], clock: Clock) -> Iterable[bytes]:
    bodies: dict[metrics.Metric, bytes] = {}
    for one in group:
        point = _attributes(1, one.attributes) + _histogram_point(one.values)
        point += _fixed(2, one.born_ns + clock.offset_ns) + _fixed(3, clock.now_ns)
        bodies[one.metric] = bodies.get(one.metric, b"") + _part(1, point)
    for metric, body in bodies.items():
        yield _metric(metric, 10, body + _number(2, _CUMULATIVE))


def _histogram_point(values: histogram.Histogram) -> bytes:
    used = [i for i, number in enumerate(values.buckets) if number]
    first, last = used[0], used[-1]
    counts = b"".join(_varint(number) for number in values.buckets[first : last + 1])
    buckets = _number(1, _zigzag(histogram.OTLP_OFFSET + first)) + _part(2, counts)
    return (
        _fixed(4, values.count)
        + _double(5, values.sum_ns / 1e9)
        + _number(6, _zigzag(histogram.SCALE))
        + _part(8, buckets)
    )


def _exemplar(event: layout.Event, clock: Clock) -> bytes:
    told = _attributes(7, {COOKIE: str(event.cookie)})
    at = _fixed(2, event.at_ns + clock.offset_ns)
    return _part(11, at + _double(3, event.value / 1e9) + told)


def _series_counters(group: Sequence[series.Series], clock: Clock) -> Iterable[bytes]:
    points: dict[str, bytes] = {}
    named: dict[str, metrics.Metric] = {}
    for name, metric in metrics.COUNTERS.items():
        for one in group:
            if not one.counters[name]:
                continue
            told = _attributes_of(one.key)
            if metric.outcome:
                told["outcome"] = metric.outcome
            point = _fixed(2, one.born_ns + clock.offset_ns) + _fixed(3, clock.now_ns)
            point += _fixed(6, one.counters[name]) + _attributes(7, told)
            points[metric.name] = points.get(metric.name, b"") + _part(1, point)
            named[metric.name] = metric
    for name, body in points.items():
        yield _metric(named[name], 7, body + _number(2, _CUMULATIVE) + _number(3, 1))


def _points(points: Iterable[own.Point], clock: Clock) -> Iterable[bytes]:
    for point in points:
        body = _fixed(3, clock.now_ns) + _double(4, point.value)
        body = _part(1, body + _attributes(7, dict(point.attributes)))
        if point.counter:
            yield _metric(point.metric, 7, body + _number(2, _CUMULATIVE) + _number(3, 1))
        else:
            yield _metric(point.metric, 5, body)
