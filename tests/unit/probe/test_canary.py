"""Whether a canary gets all connections or none."""

from __future__ import annotations

from dataclasses import replace

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


def test_a_canary_answers_only_for_what_came_since_it_began() -> None:
    """The one before it left 1,000 messages, all of them timed."""
    before = [slot(0, 10_000, 10_000), slot(1, 1000, 1000)]

    def verdict(messages: int, timed: int) -> str:
        now = [slot(0, 20_000, 20_000), slot(1, 1000 + messages, 1000 + timed)]
        return canary.judge(canary.since(now, before), {"stale": 0}, 5000).verdict

    assert verdict(0, 0) == "wait"
    assert verdict(300, 290) == "rollback"
    assert verdict(300, 300) == "promote"


def test_a_slot_that_was_given_to_another_counts_from_nothing() -> None:
    now = replace(slot(1, 300, 300), generation=1)
    (gained,) = canary.since([now], [slot(1, 1000, 1000)])
    assert gained.counters["receives"] == 300
    assert gained.histograms["ack"].count == 300


def test_little_beside_the_canary_says_nothing() -> None:
    assert canary.judge([slot(0, 50, 49), slot(1, 1000, 1000)], {}, 5000).verdict == "wait"
    assert canary.judge([slot(1, 1000, 1000)], {}, 5000).verdict == "promote"
