"""Read a source again and again: series with their owners, what expired, what the probe costs."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from rallypoint.probe import owners, session, snmp, source
from rallypoint.probe.domain import calls, layout, metrics, own, pods, retention, series

KEPT_EVENTS: Final = 256


class Reading:
    """What one source says, in the words of `domain.series`."""

    def __init__(
        self,
        opened: source.Source,
        tree: owners.Owners,
        *,
        whole: bool = False,
        kept_s: float = retention.KEPT_S,
    ) -> None:
        self.source = opened
        self.names: pods.Names = pods.nobody
        self.events: deque[tuple[series.SeriesKey, layout.Event]] = deque(maxlen=KEPT_EVENTS)
        self._tree = tree
        self._whole = whole  # everything of our namespace is watched: it can be compared
        self._retention = retention.Retention(kept_s)
        self._unnamed: set[int] = set()
        self._namespace = snmp.namespace()
        self._before: dict[str, int] = {}
        self._before = {one.name: one.kernel - one.probe for one in self.compared()}
        self._others = _bpf_descriptors() - _expected(opened)  # mappings keep their own copies
        self._read_s = 0.0
        self._following = isinstance(opened, session.Session) and opened.calls is not None
        self._calls = calls.Calls()

    def look(self) -> None:
        """Once a second, and whenever the ring has something: names first, while they exist."""
        self.source.look()
        found = self.source.events()
        self._unnamed |= {event.cgroup for event in found} | self._follow()
        self._unnamed = {cgroup for cgroup in self._unnamed if not self._tree.find(cgroup).path}
        told = [event for event in found if event.kind is not layout.EventKind.NEW_SLOT]
        if told:
            keys = {slot.index: slot.key for slot in self.source.slots()}
            for event in told:
                if key := keys.get(event.slot):
                    self.events.append((self._key(key), event))

    def _follow(self) -> set[int]:
        """Take what is told of calls; whose they are."""
        if not isinstance(self.source, session.Session) or self.source.calls is None:
            return set()
        known = set(self._calls.series)
        self._calls.take(self.source.calls.events())
        return {key.cgroup for key in self._calls.series.keys() - known}

    def calls(self) -> list[calls.CallSeries]:
        """The calls counted, if they are followed."""
        if not self._following:
            return []
        self._follow()
        self._calls.expire(self._tree.exists, time.monotonic())
        return calls.told(self._calls.series, self._tree.find)

    def unrecognised(self) -> dict[str, int]:
        """What of calls could not be followed, by its reason."""
        if not isinstance(self.source, session.Session) or self.source.calls is None:
            return {}
        return {**self._calls.unrecognised, **self.source.calls.totals()}

    def _key(self, key: layout.Key) -> series.SeriesKey:
        return series.key_of(key, self._tree.find(key.cgroup))

    def series(self, *, apart: bool = False) -> list[series.Series]:
        """Everything counted; slots of what is long gone are given back on the way."""
        begun = time.monotonic()
        slots = self.source.slots()
        if slots:
            self._tree.refresh()
        expired = self._retention.expired(slots, self._tree.exists, begun)
        for slot in expired:
            self._retention.freed(slot, self._tree.find(slot.key.cgroup))
            self.source.free(slot)
        gone = {slot.index for slot in expired}
        slots = [slot for slot in slots if slot.index not in gone]
        found = self._retention.with_kept(series.of_slots(slots, self._tree.find, apart=apart))
        self._read_s = time.monotonic() - begun
        return found

    def about_itself(self, count: int) -> list[own.Point]:
        """What the probe says about itself."""
        told = (("mode", self.source.mode), ("reason", self.source.reason))
        found = [
            own.Point(metrics.MODE, 1, tuple(pair for pair in told if pair[1])),
            own.Point(metrics.SERIES, count),
            own.Point(metrics.READ_TIME, self._read_s),
            own.Point(metrics.LEAKED, _bpf_descriptors() - _expected(self.source) - self._others),
        ]
        for name, value in self.source.totals().items():
            found.append(own.Point(metrics.TROUBLE, value, (("kind", name),), counter=True))
        if isinstance(self.source, session.Session):
            following = self.source.calls
            more = following.costs() if following is not None else []
            found += _costs([*self.source.costs(), *more])
        return found + self._about_calls() + own.points_of(self.compared())

    def _about_calls(self) -> list[own.Point]:
        if not isinstance(self.source, session.Session) or not self.source.calls_asked:
            return []
        refused = self.source.loaded.calls_refused
        told = (("state", "off"), ("reason", refused)) if refused else (("state", "on"),)
        return [own.Point(metrics.FOLLOWING, 1, told)] + [
            own.Point(metrics.UNRECOGNISED, count, (("reason", reason),), counter=True)
            for reason, count in self.unrecognised().items()
        ]

    def compared(self) -> list[own.Comparison]:
        """Ours against the kernel's own counters, where both saw all of one namespace.

        Both count from the first look on: what happened while we attached is in neither.
        """
        if not self._whole or not isinstance(self.source, session.Session):
            return []
        now = snmp.counters()
        return own.compared(self._before, now, self.source.slots(), self._namespace)


def _costs(costs: Iterable[session.ProgramCost]) -> list[own.Point]:
    found = []
    locked = 0
    for cost in costs:
        told = (("program", cost.name),)
        locked += cost.locked_bytes
        found.append(own.Point(metrics.MISSED, cost.missed, told, counter=True))
        if cost.runs:
            found.append(own.Point(metrics.RUNS, cost.runs, told, counter=True))
            found.append(own.Point(metrics.RUN_TIME, cost.run_ns / 1e9, told, counter=True))
    return [*found, own.Point(metrics.LOCKED, locked)]


def _expected(opened: source.Source) -> int:
    """The descriptors that a session holds by its own account."""
    return opened.held() if isinstance(opened, session.Session) else 0


def _bpf_descriptors() -> int:
    """How many of our descriptors are maps, programs or links of BPF."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "bpf" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
    return count
