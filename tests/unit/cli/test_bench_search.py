"""The search for the largest number of players."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.cli import bench_search
from rallypoint.cli.bench_search import Sample


def sample(players: int, failure: str = "", *, cpu: float = 0.5, others: float = 0.0) -> Sample:
    return Sample(players, cpu, others, failure)


def following(*samples: Sample) -> bench_search.Step:
    return bench_search.following(list(samples), room=8, most=8000)


def report(**changes: object) -> dict[str, object]:
    return {"echo_ms": {"p99": 80.0}, "errors": 0, "delivered": 1.0, **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"errors": 2}, "2 errors"),
        ({"delivered": 0.94}, "delivered 0.94"),
        ({"echo_ms": {"p99": 150.0}}, "echo p99 150.0 ms"),
        ({"echo_ms": {"p99": None}}, "no echo"),
    ],
)
def test_a_size_holds_by_all_its_figures(changes: dict[str, object], why: str) -> None:
    assert bench_search.judge(report(**changes)) == why


def test_a_failed_size_is_tried_again_and_then_the_one_before_is_found() -> None:
    good, bad = sample(1000), sample(1304, "slow")
    assert following(good, bad).players == 1304
    assert following(good, bad, bad) == bench_search.Step(found=1000, done=True)
    assert following(good, bad, sample(1304)).players > 1304


def test_failures_on_a_core_that_others_use_count_less() -> None:
    good, bad = sample(1000), sample(1304, "slow", others=0.3)
    assert not following(good, bad, bad).done
    assert following(good, *[bad] * bench_search.MOST_TRIES).done


def test_nothing_is_found_when_the_first_size_fails() -> None:
    assert following(sample(8, "slow"), sample(8, "slow")) == bench_search.Step(done=True)


@given(limit=st.integers(8, 9000), first=st.integers(1, 100))
def test_any_limit_is_found_to_a_few_percent(limit: int, first: int) -> None:
    samples: list[Sample] = []
    step = bench_search.Step(players=8 * first)
    while not step.done:
        cpu = step.players / limit
        samples.append(sample(step.players, "" if step.players <= limit else "slow", cpu=cpu))
        step = bench_search.following(samples, room=8, most=8000)
        assert len(samples) < 60
    assert step.found <= min(limit, 8000)
    if 8 * first <= limit:
        assert step.found >= 0.7 * min(limit, 8000) - 8
