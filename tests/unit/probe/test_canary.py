"""Whether a canary gets all connections or none."""

from __future__ import annotations

import pytest

from rallypoint.probe.domain import canary, histogram, layout
from rallypoint.probe.domain.canary import Cost


def slot(bank: int, messages: int, timed: int) -> layout.Slot:
    key = layout.Key(1, 5, 7001, "tcp", "server", bank)
    seen = histogram.Histogram(0, [timed] + [0] * 255)
    histograms = {**dict.fromkeys(layout.HISTOGRAMS, histogram.EMPTY)}
    histograms |= {"receive_queue": seen, "ack": seen}
    counters = dict.fromkeys(layout.COUNTERS, 0) | {"receives": messages, "sends": messages}
    return layout.Slot(bank, key, 0, 1, counters, histograms)


@pytest.mark.parametrize(
    ("timed", "messages", "trouble", "cost", "verdict"),
    [
        (1000, 1000, 0, Cost(5000), "promote"),
        (995, 1000, 0, Cost(5000), "promote"),
        (950, 1000, 0, Cost(5000), "rollback"),
        (100, 100, 0, Cost(5000), "wait"),
        (1000, 1000, 1, Cost(5000), "rollback"),
        (1000, 1000, 0, Cost(0), "rollback"),
        (1000, 1000, 0, Cost(60_000), "rollback"),
        (1000, 1000, 0, Cost(5000, 119.0), "promote"),
        (1000, 1000, 0, Cost(5000, 121.0), "rollback"),
    ],
    ids=[
        "agrees", "nearly", "misses", "too little", "trouble", "unknown", "too long", "as cheap",
        "dearer",
    ],
)  # fmt: skip
def test_a_canary_is_judged_by_its_figures(
    timed: int, messages: int, trouble: int, cost: Cost, verdict: str
) -> None:
    slots = [slot(0, 10_000, 10_000), slot(1, messages, timed)]
    opinion = canary.judge(slots, {"stale": trouble}, Cost(5000, 100.0), cost)
    assert opinion.verdict == verdict
    assert opinion.reason
