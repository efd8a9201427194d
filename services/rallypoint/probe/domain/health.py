"""Judge the network of each pod by what its sockets gained: slowly in both directions.

Several bad windows in a row make an opinion, more good ones undo it, and while it stands the limits
are lower: who is near a limit does not come and go. Too little traffic changes no opinion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rallypoint.probe.domain import histogram, series

CONDITION: Final = "NetworkHealthy"
WITHIN: Final = "WithinLimits"
RETRANSMITS: Final = "RetransmitsHigh"
PATH: Final = "RoundTripsHigh"
DROPS: Final = "DatagramsDropped"
STOPPED: Final = "ProbeStopped"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where bad begins, and how long it has to last."""

    retransmits: float = 0.05
    path_s: float = 0.25
    drops: float = 0.01
    least: int = 50
    """Messages in a window; with fewer it says nothing."""
    window_s: float = 10.0
    bad_windows: int = 3
    good_windows: int = 6
    relief: float = 0.7
    """The share of a limit below which it has to fall again."""


class Opinion(NamedTuple):
    """What is said of a pod."""

    healthy: bool
    reason: str
    message: str


class Finding(NamedTuple):
    """One window of a pod; `reason` is empty where all is well."""

    reason: str
    message: str


@dataclass(slots=True)
class _State:
    opinion: Opinion | None = None
    against: int = 0
    """Windows in a row that speak for a change."""


@dataclass(slots=True)
class _Sum:
    messages: int = 0
    retransmits: int = 0
    datagrams: int = 0
    drops: int = 0
    paths: list[histogram.Histogram] = field(default_factory=list)

    def add(self, gained: series.Series) -> None:
        told = gained.counters
        if gained.key.transport == "tcp":
            self.messages += max(told["sends"], gained.histograms["rtt"].count)
            self.retransmits += told["retransmits"]
            self.paths.append(gained.histograms["rtt_min"])
        else:
            self.datagrams += told["receives"] + told["drops"]
            self.drops += told["drops"]


class Health:
    """The opinions of all pods of a node. A pod that has no series any more is forgotten."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._before: Mapping[series.SeriesKey, series.Series] = {}
        self._states: dict[str, _State] = {}
        self._due = float("-inf")

    def due(self, now: float) -> bool:
        """Whether a window has ended."""
        return now >= self._due

    def forget(self, uid: str) -> None:
        """Begin anew with a pod: its opinion could not be told."""
        self._states.pop(uid, None)

    def look(self, found: Iterable[series.Series], now: float) -> dict[str, Opinion]:
        """End a window: the opinions that changed, or were formed, by the pods' uids."""
        self._due = now + self._limits.window_s
        current = {one.key: one for one in found if one.key.owner.pod_uid}
        sums: dict[str, _Sum] = {}
        for gained in series.gained(self._before, current):
            sums.setdefault(gained.key.owner.pod_uid, _Sum()).add(gained)
        self._before = current
        known = {key.owner.pod_uid for key in current}
        self._states = {uid: self._states.get(uid, _State()) for uid in known}
        changed = {}
        for uid, total in sums.items():
            if (opinion := self._weigh(self._states[uid], total)) is not None:
                changed[uid] = opinion
        return changed

    def _weigh(self, state: _State, total: _Sum) -> Opinion | None:
        """The new opinion, if it is one."""
        held = state.opinion
        ill = held is not None and not held.healthy
        finding = judged(total, self._limits, self._limits.relief if ill else 1.0)
        if finding is None:
            return None
        bad = bool(finding.reason)
        if held is not None and bad != held.healthy:
            state.against = 0
            return None
        state.against = _onward(state.against, bad=bad, fresh=held is None)
        needed = self._limits.bad_windows if bad else self._limits.good_windows
        if abs(state.against) < needed:
            return None
        state.against = 0
        state.opinion = Opinion(not bad, finding.reason or WITHIN, finding.message)
        return state.opinion


def _onward(count: int, *, bad: bool, fresh: bool) -> int:
    """Count a window. Without an opinion yet good ones count down and bad ones up: in a row."""
    if not fresh:
        return count + 1
    return max(count, 0) + 1 if bad else min(count, 0) - 1


def judged(total: _Sum, limits: Limits, factor: float) -> Finding | None:
    """What one window says; None if there was too little."""
    if total.messages < limits.least and total.datagrams < limits.least:
        return None
    if total.messages >= limits.least:
        share = total.retransmits / (total.messages + total.retransmits)
        if share > limits.retransmits * factor:
            return Finding(RETRANSMITS, f"{share:.1%} of what was sent was sent again")
        path = histogram.added(total.paths).quantile_s(0.5)
        if path > limits.path_s * factor:
            return Finding(PATH, f"half of the connections are {path * 1e3:.0f} ms away or more")
    if total.datagrams >= limits.least and total.drops > total.datagrams * limits.drops * factor:
        share = total.drops / total.datagrams
        return Finding(DROPS, f"{share:.1%} of the datagrams found no room")
    return Finding("", "retransmits, round trips and drops are within their limits")
