"""Slots joined with their owners: what is shown and exported. Peers have no address here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from rallypoint.probe.domain import histogram, layout, pods
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner

_MS: Final = 1e3
_DIGITS: Final = 4


class SeriesKey(NamedTuple):
    """One series: whose sockets, at which port of the server, as which end of it."""

    owner: Owner
    transport: str
    port: int
    role: str
    bank: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """What is known of it: everything since `born_ns` (the kernel's monotonic clock)."""

    key: SeriesKey
    born_ns: int
    counters: Mapping[str, int]
    histograms: Mapping[str, histogram.Histogram]


def key_of(key: layout.Key, owner: Owner, *, apart: bool = False) -> SeriesKey:
    """The series of a slot. All that is unknown is one, whatever its port.

    What a canary counted is shown `apart` while there is one, and is part of the whole otherwise.
    """
    port = 0 if owner == UNKNOWN else key.port
    return SeriesKey(owner, key.protocol, port, key.role, key.bank if apart else 0)


def of_slots(
    slots: Iterable[layout.Slot], find: Callable[[int], Owner], *, apart: bool = False
) -> list[Series]:
    """One series per owner, port and role."""
    parts: dict[SeriesKey, list[Series]] = {}
    for slot in slots:
        key = key_of(slot.key, find(slot.key.cgroup), apart=apart)
        part = Series(key, slot.born_ns, slot.counters, slot.histograms)
        parts.setdefault(key, []).append(part)
    return [added(key, found) for key, found in parts.items()]


def added(key: SeriesKey, parts: list[Series]) -> Series:
    """Several as one."""
    if len(parts) == 1:
        return parts[0]
    return Series(
        key,
        min(part.born_ns for part in parts),
        {name: sum(p.counters[name] for p in parts) for name in layout.COUNTERS},
        {n: histogram.added(p.histograms[n] for p in parts) for n in layout.HISTOGRAMS},
    )


def since(now: Series, before: Series) -> Series:
    """What a series gained."""
    return Series(
        now.key,
        now.born_ns,
        {name: now.counters[name] - before.counters[name] for name in layout.COUNTERS},
        {n: histogram.since(now.histograms[n], before.histograms[n]) for n in layout.HISTOGRAMS},
    )


def gained(before: Mapping[SeriesKey, Series], now: Mapping[SeriesKey, Series]) -> list[Series]:
    """What every series gained between two readings; those that were quiet are left out."""
    found = []
    for key, one in now.items():
        old = before.get(key)
        more = since(one, old) if old is not None and old.born_ns == one.born_ns else one
        if any(more.counters.values()) or any(h.count for h in more.histograms.values()):
            found.append(more)
    return found


def shown(series: Series, named: pods.Named = pods.NAMELESS) -> dict[str, object]:
    """For JSON: times in milliseconds, only what was seen."""
    key = series.key
    found: dict[str, object] = {
        "owner": named.title or key.owner.name,
        "pod": key.owner.pod_uid,
        "container": key.owner.container_id,
        "transport": key.transport,
        "port": key.port,
        "role": key.role,
        "counters": {name: value for name, value in series.counters.items() if value},
    }
    for name, values in series.histograms.items():
        if values.count:
            found[f"{name}_ms"] = figures(values)
    return found


def figures(values: histogram.Histogram) -> dict[str, float]:
    """Count, mean and quantiles, in milliseconds."""
    return {
        "count": values.count,
        "mean": round(values.mean_s * _MS, _DIGITS),
        "p50": round(values.quantile_s(0.5) * _MS, _DIGITS),
        "p99": round(values.quantile_s(0.99) * _MS, _DIGITS),
    }
