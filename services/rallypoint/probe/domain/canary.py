"""Judge a canary: does it count as the version in use does.

Its price cannot be told apart: the kernel times a program that was jumped to as its dispatcher's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from rallypoint.probe.domain import layout

Verdict = Literal["wait", "promote", "rollback"]
LEAST_MESSAGES: Final = 200
"""Of the canary's own connections; with fewer nothing is said."""
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
    """What to do with it. `slots` are of both banks, `trouble` is what came since it began,
    `instructions` what the verifier went through."""
    if any(trouble.values()):
        return Opinion("rollback", "trouble: " + ", ".join(n for n, v in trouble.items() if v))
    if not 0 < instructions <= MOST_INSTRUCTIONS:
        return Opinion("rollback", f"{instructions} instructions")
    of_tcp = [slot for slot in slots if slot.key.protocol == "tcp"]
    banks = [[slot for slot in of_tcp if slot.key.bank == bank] for bank in (0, 1)]
    for histogram, untimed, counter in _SHARES:
        happened = sum(slot.counters[counter] for slot in banks[1])
        if happened < LEAST_MESSAGES:
            return Opinion("wait", f"{happened} {counter} by the canary")
        stable_share, share = (_share(bank, histogram, untimed, counter) for bank in banks)
        if abs(stable_share - share) > AGREEMENT:
            told = f"{histogram}: {share:.3f} of {counter} timed, was {stable_share:.3f}"
            return Opinion("rollback", told)
    return Opinion("promote", "counts agree")


def _share(slots: Iterable[layout.Slot], histogram: str, untimed: str, counter: str) -> float:
    timed = happened = 0
    for slot in slots:
        timed += slot.histograms[histogram].count + slot.counters[untimed]
        happened += slot.counters[counter]
    return timed / happened if happened else 1.0
