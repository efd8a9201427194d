"""The search for the largest number of players, as values: no clock, no process.

A server only grows: players come and stay, so that nobody is matched twice. Steps are bold while
the servers have time to spare and small where it ends; a size that fails is tried again, more often
while others use the same core. The answer is the last size that passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

P99_BELOW_MS = 150.0
DELIVERED_AT_LEAST = 0.95
TRIES = 2
MOST_TRIES = 5
OTHERS_BELOW = 0.05
"""Above it a failure does not count: a core that others use says nothing of its own."""
STEP = 0.4
"""How much of the core that is left to take with the next step."""
GROWTH = (0.03, 0.6)
"""The smallest and the largest step, as a part of the players there are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One size, measured."""

    players: int
    cpu_fraction: float
    others_fraction: float
    """What others took of the servers' core meanwhile."""
    failure: str
    """Why it does not count; empty for a size that holds."""

    @property
    def passed(self) -> bool:
        """Whether the size holds."""
        return not self.failure


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: measure this size, or be done with `found`."""

    players: int = 0
    found: int = 0
    done: bool = False


def judge(report: Mapping[str, Any]) -> str:
    """Why a measurement is not good enough, in a few words; empty when it is."""
    p99 = report["echo_ms"]["p99"]
    if report["errors"]:
        return f"{report['errors']} errors"
    if report["delivered"] < DELIVERED_AT_LEAST:
        return f"delivered {report['delivered']}"
    if p99 is None:
        return "no echo"
    return "" if p99 < P99_BELOW_MS else f"echo p99 {p99} ms"


def following(samples: list[Sample], *, room: int, most: int) -> Step:
    """The step after `samples`: sizes are whole rooms of `room` players and at most `most`."""
    last = samples[-1]
    if not last.passed:
        tries = [sample for sample in samples if sample.players == last.players]
        quiet = [sample for sample in tries if sample.others_fraction < OTHERS_BELOW]
        if len(quiet) < TRIES and len(tries) < MOST_TRIES:
            return Step(players=last.players)
        return _done(samples)
    if last.players >= most:
        return _done(samples)
    grown = last.players * (1 + _growth(last.cpu_fraction))
    return Step(players=min(most, max(last.players + room, round(grown / room) * room)))


def _growth(cpu_fraction: float) -> float:
    least, most = GROWTH
    return min(most, max(least, STEP * (1 / max(cpu_fraction, 0.01) - 1)))


def _done(samples: list[Sample]) -> Step:
    return Step(found=max((s.players for s in samples if s.passed), default=0), done=True)
