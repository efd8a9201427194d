"""The Prometheus text format. Eight of our buckets are one octave: no value changes its bucket."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rallypoint.probe.domain import calls, histogram, metrics, own, pods, series
from rallypoint.probe.domain.cgroups import Owner

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_OCTAVE, _LAST_OCTAVE = -17, 5  # 7.6 µs to 32 s
Labels = Mapping[str, str]


def text(
    found: Iterable[series.Series],
    points: Iterable[own.Point],
    names: pods.Names = pods.nobody,
    followed: Iterable[calls.CallSeries] = (),
) -> str:
    """Everything, one family after the other."""
    every = [(one, labels(one.key, names(one.key.owner))) for one in found]
    lines: list[str] = []
    for name, metric in metrics.HISTOGRAMS.items():
        lines += _head(metric, "histogram", counter=False)
        for one, told in every:
            lines += _histogram(metric, told, one.histograms[name])
    lines += _families(
        own.Point(metric, one.counters[name], _pairs(told, metric), counter=True)
        for name, metric in metrics.COUNTERS.items()
        for one, told in every
        if one.counters[name]
    )
    lines += _calls(followed, names)
    lines += _families(points)
    return "\n".join(lines) + "\n"


def _calls(followed: Iterable[calls.CallSeries], names: pods.Names) -> Iterator[str]:
    """Calls, one family per protocol and role."""
    for metric, group in itertools.groupby(
        sorted(followed, key=lambda one: one.metric.name), key=lambda one: one.metric
    ):
        yield from _head(metric, "histogram", counter=False)
        for one in group:
            told = {name: str(value) for name, value in one.attributes.items()}
            told["port"] = told.pop("server.port")
            owner = _owner(one.owner, names(one.owner))
            yield from _histogram(metric, {**owner, **told}, one.values)


def _owner(owner: Owner, named: pods.Named) -> dict[str, str]:
    found = {
        "pod_namespace": named.namespace,
        "pod_name": named.pod,
        "container_name": named.container,
        "pod_uid": owner.pod_uid,
        "container_id": owner.container_id,
        "owner": "" if owner.pod_uid else owner.name,
    }
    return {name: value for name, value in found.items() if value}


def labels(key: series.SeriesKey, named: pods.Named = pods.NAMELESS) -> dict[str, str]:
    """What tells series apart. Never a peer."""
    found = _owner(key.owner, named)
    found |= {"transport": key.transport, "role": key.role, "port": str(key.port)}
    if key.bank:
        found["version"] = "canary"
    return found


def _pairs(told: Labels, metric: metrics.Metric) -> tuple[tuple[str, str], ...]:
    more = {"outcome": metric.outcome} if metric.outcome else {}
    return tuple({**told, **more}.items())


def _families(points: Iterable[own.Point]) -> list[str]:
    """Points grouped by their metric, each family with its head once."""
    groups: dict[str, list[own.Point]] = {}
    for point in points:
        groups.setdefault(point.metric.name, []).append(point)
    lines: list[str] = []
    for group in groups.values():
        first = group[0]
        lines += _head(first.metric, "counter" if first.counter else "gauge", counter=first.counter)
        name = metrics.prometheus_name(first.metric, counter=first.counter)
        lines += [f"{name}{_shown(dict(p.attributes))} {_number(p.value)}" for p in group]
    return lines


def _head(metric: metrics.Metric, kind: str, *, counter: bool) -> list[str]:
    name = metrics.prometheus_name(metric, counter=counter)
    return [f"# HELP {name} {metric.text}", f"# TYPE {name} {kind}"]


def _histogram(metric: metrics.Metric, told: Labels, values: histogram.Histogram) -> Iterator[str]:
    count = values.count
    if not count:
        return
    name = metrics.prometheus_name(metric, counter=False)
    for octave in range(_FIRST_OCTAVE, _LAST_OCTAVE + 1):
        end = octave * histogram.PER_OCTAVE - histogram.OTLP_OFFSET
        below = sum(values.buckets[:end])
        yield f"{name}_bucket{_shown({**told, 'le': repr(2.0**octave)})} {below}"
    yield f"{name}_bucket{_shown({**told, 'le': '+Inf'})} {count}"
    yield f"{name}_sum{_shown(told)} {values.sum_ns / 1e9!r}"
    yield f"{name}_count{_shown(told)} {count}"


def _shown(told: Labels) -> str:
    escaped = (
        '{}="{}"'.format(
            name.replace(".", "_"),
            value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"'),
        )
        for name, value in told.items()
    )
    return "{" + ",".join(escaped) + "}" if told else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
