"""Whether a canary gets all connections or none."""

from __future__ import annotations

import pytest

from rallypoint.probe.domain import canary, histogram, layout


def slot(bank: int, messages: int, timed: int) -> layout.Slot:
    key = layout.Key(1, 5, 7001, "tcp", "server", bank)
    seen = histogram.Histogram(0, [timed] + [0] * 255)
    histograms = {**dict.fromkeys(layout.HISTOGRAMS, histogram.EMPTY)}
    histograms |= {"receive_queue": seen, "ack": seen}
    counters = dict.fromkeys(layout.COUNTERS, 0) | {"receives": messages, "sends": messages}
    return layout.Slot(bank, key, 0, 1, counters, histograms)


@pytest.mark.parametrize(
    ("timed", "messages", "trouble", "instructions", "verdict"),
    [
        (1000, 1000, 0, 5000, "promote"),
        (995, 1000, 0, 5000, "promote"),
        (950, 1000, 0, 5000, "rollback"),
        (100, 100, 0, 5000, "wait"),
        (1000, 1000, 1, 5000, "rollback"),
        (1000, 1000, 0, 0, "rollback"),
        (1000, 1000, 0, 60_000, "rollback"),
    ],
    ids=["agrees", "nearly", "misses", "too little", "trouble", "unknown", "too long"],
)
def test_a_canary_is_judged_by_its_figures(
    timed: int, messages: int, trouble: int, instructions: int, verdict: str
) -> None:
    slots = [slot(0, 10_000, 10_000), slot(1, messages, timed)]
    opinion = canary.judge(slots, {"stale": trouble}, instructions)
    assert opinion.verdict == verdict
    assert opinion.reason
