"""From what Locust counted to a verdict: objectives in YAML, checks as values.

    objectives:
      input to echo: {at_least: 100, p50_ms: 100, p99_ms: 250, failed_percent: 0.1}
      stream: {failed: 0}

An objective holds for each transport by itself. `at_least` asks for every transport that a run was
asked to play: one that measured nothing of it has not passed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PERCENTILES = (50, 95, 99)
LATE_MS = 100.0
"""A load whose lateness at p99 is more than this is no witness against the servers."""
BUSY = 0.9
"""Nor is one that takes more of a core than this."""
OWN = "swarm"
"""The transport of what the load says of itself."""
KNOWN = ("at_least", "failed", "failed_percent", *(f"p{p}_ms" for p in PERCENTILES))


class SloError(Exception):
    """The document cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of Locust's table."""

    name: str
    transport: str
    count: int
    """Failures included."""
    failures: int
    percentiles_ms: Mapping[int, float]
    """Of what went well; empty when nothing did."""


@dataclass(frozen=True, slots=True)
class Check:
    """One limit, and what was seen."""

    what: str
    limit: float
    seen: float | None
    """None: nothing was counted."""
    passed: bool

    def line(self) -> str:
        """For people."""
        seen = "nothing seen" if self.seen is None else f"{self.seen:g}"
        return f"{'ok ' if self.passed else 'RED'} {self.what}: {seen}, limit {self.limit:g}"


Objectives = Mapping[str, Mapping[str, float]]


def load(path: Path) -> Objectives:
    """Read a document; SloError when it says anything that is not understood."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SloError(f"{path} cannot be read: {error}") from error
    return parse(document)


def parse(document: Any) -> Objectives:
    """Check a document's shape."""
    if not isinstance(document, dict) or set(document) != {"objectives"}:
        raise SloError("a document of objectives has the one key `objectives`")
    found = document["objectives"]
    if not isinstance(found, dict) or not found:
        raise SloError("`objectives` is a mapping of names to limits, and not empty")
    for name, limits in found.items():
        if not isinstance(limits, dict) or not limits:
            raise SloError(f"{name!r} has no limits")
        for key, limit in limits.items():
            if key not in KNOWN:
                raise SloError(f"{name!r}: {key!r} is not one of {', '.join(KNOWN)}")
            if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
                raise SloError(f"{name!r}: {key} is {limit!r}, a number from 0 is needed")
    return found


def judge(objectives: Objectives, rows: Iterable[Row], asked: Collection[str] = ()) -> list[Check]:
    """All checks, in the document's order; `asked` are the transports that players were to use."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    return [
        check
        for name, limits in objectives.items()
        for key, limit in limits.items()
        for check in _checks(name, key, limit, by_name.get(name, []), asked)
    ]


def _checks(
    name: str, key: str, limit: float, rows: Sequence[Row], asked: Collection[str]
) -> Iterable[Check]:
    if key == "at_least":
        well = {row.transport: row.count - row.failures for row in rows}
        if OWN not in well:
            well = dict.fromkeys(asked, 0) | well
        for transport, count in sorted(well.items()) or [("nobody", 0)]:
            yield Check(f"{name} {key} ({transport})", limit, count, count >= limit)
        return
    for row in rows:
        seen = _seen(key, row)
        if seen is not None:
            yield Check(f"{name} {key} ({row.transport})", limit, seen, seen <= limit)
    if not rows and key.startswith("failed"):
        yield Check(f"{name} {key}", limit, 0, passed=True)


def _seen(key: str, row: Row) -> float | None:
    if key == "failed":
        return row.failures
    if key == "failed_percent":
        return round(100 * row.failures / max(1, row.count), 3)
    percent = int(key.removeprefix("p").removesuffix("_ms"))
    return row.percentiles_ms.get(percent)


@dataclass(frozen=True, slots=True)
class Generator:
    """How the load itself did: its lateness is in every time it measured."""

    late_p99_ms: float
    """How late its event loop sent inputs that were due."""
    busy: float
    """Share of a core, of the busiest swarm on average."""

    @property
    def saturated(self) -> bool:
        """Whether red figures may be the load's own."""
        return self.late_p99_ms > LATE_MS or self.busy > BUSY

    def line(self) -> str:
        """For people."""
        told = f"the load: {100 * self.busy:.0f} % of a core, p99 {self.late_p99_ms:g} ms late"
        if not self.saturated:
            return told
        return f"{told}. SATURATED: what is red may be the load's own doing, not the servers'"


def passed(checks: Sequence[Check]) -> bool:
    """Whether all were kept."""
    return all(check.passed for check in checks)
