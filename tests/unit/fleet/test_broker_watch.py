"""Counters of brokers are followed from the first look on, over their restarts too."""

from __future__ import annotations

import pytest

from rallypoint.fleet import broker_watch


@pytest.mark.parametrize(
    ("before", "now", "more"),
    [(None, 7, 0), (7, 7, 0), (7, 9, 2), (9, 0, 0), (9, 2, 2)],
    ids=["first look", "nothing new", "more", "restarted", "restarted and more"],
)
def test_counter_grows_by_what_is_new(before: int | None, now: int, more: int) -> None:
    assert broker_watch.more(before, now) == more


def test_only_what_refuses_when_full_is_watched() -> None:
    assert broker_watch.REFUSING == ("RESULTS", "KV_leases", "KV_nodes", "KV_rooms", "KV_config")
