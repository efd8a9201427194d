"""Judge a canary: does it count as the version in use does.

Its price cannot be told apart: the kernel times a program that was jumped to as its dispatcher's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from rallypoint.probe.domain import histogram, layout

Verdict = Literal["wait", "promote", "rollback"]
LEAST_MESSAGES: Final = 200
"""Of each version's connections; with fewer nothing is said."""
AGREEMENT: Final = 0.01
MOST_INSTRUCTIONS: Final = 50_000
# How often something was timed, as a share of how often it happened.
_SHARES: Final = (
    ("receive_queue", "arrivals_untimed", "receives"),
    ("ack", "sends_untimed", "sends"),
)


@dataclass(frozen=True, slots=True)
class Opinion:
    """The verdict and why."""

    verdict: Verdict
    reason: str


def judge(
    slots: Iterable[layout.Slot],
    trouble: Mapping[str, int],
    instructions: int,
) -> Opinion:
    """What to do with it. `slots` (of both banks) and `trouble` are what came since it began,
    `instructions` what the verifier went through."""
    if any(trouble.values()):
        return Opinion("rollback", "trouble: " + ", ".join(n for n, v in trouble.items() if v))
    if not 0 < instructions <= MOST_INSTRUCTIONS:
        return Opinion("rollback", f"{instructions} instructions")
    of_tcp = [slot for slot in slots if slot.key.protocol == "tcp"]
    banks = [[slot for slot in of_tcp if slot.key.bank == bank] for bank in (0, 1)]
    for timed, untimed, counter in _SHARES:
        stable, fresh = (sum(slot.counters[counter] for slot in bank) for bank in banks)
        if fresh < LEAST_MESSAGES:
            return Opinion("wait", f"{fresh} {counter} by the canary")
        if 0 < stable < LEAST_MESSAGES:
            return Opinion("wait", f"{stable} {counter} beside the canary")
        stable_share, share = (_share(bank, timed, untimed, counter) for bank in banks)
        if abs(stable_share - share) > AGREEMENT:
            told = f"{timed}: {share:.3f} of {counter} timed, was {stable_share:.3f}"
            return Opinion("rollback", told)
    return Opinion("promote", "counts agree")


def since(now: Iterable[layout.Slot], before: Iterable[layout.Slot]) -> list[layout.Slot]:
    """What the slots gained: canaries before this one left their counts in them."""
    known = {(slot.index, slot.generation): slot for slot in before}
    return [_gained(slot, known.get((slot.index, slot.generation))) for slot in now]


def _gained(now: layout.Slot, before: layout.Slot | None) -> layout.Slot:
    if before is None:
        return now
    return replace(
        now,
        counters={name: value - before.counters[name] for name, value in now.counters.items()},
        histograms={
            name: histogram.since(values, before.histograms[name])
            for name, values in now.histograms.items()
        },
    )


def _share(slots: Iterable[layout.Slot], timed: str, untimed: str, counter: str) -> float:
    told = happened = 0
    for slot in slots:
        told += slot.histograms[timed].count + slot.counters[untimed]
        happened += slot.counters[counter]
    return told / happened if happened else 1.0
