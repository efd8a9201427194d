"""Phases: derived from facts, and never what the API server would refuse."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.fleet.domain import ordinals
from rallypoint.fleet.domain.game_server import Phase
from rallypoint.fleet.domain.game_server_set import Health
from rallypoint.fleet.domain.phases import Seen, derive
from rallypoint.fleet.domain.slow_start import SlowStart

HEALTH = Health(startup_seconds=60, heartbeat_seconds=1, failure_threshold=3)
UP: dict[str, Any] = {"pod": "Running", "beat_age_s": 0.5, "capacity_rooms": 8}


@pytest.mark.parametrize(
    ("seen", "before", "phase"),
    [
        (Seen(), "Pending", "Pending"),
        (Seen(pod="Pending"), "Pending", "Pending"),
        (Seen(pod="Running", running_for_s=59), "Pending", "Starting"),
        (Seen(pod="Running", running_for_s=61), "Starting", "Unhealthy"),
        (Seen(**UP), "Starting", "Ready"),
        (Seen(**UP, rooms=1), "Ready", "Active"),
        (Seen(**UP, rooms=8), "Active", "Full"),
        (Seen(**UP, rooms=8, drain=True), "Full", "Draining"),
        (Seen(**UP, drain=True), "Draining", "Ready"),
        (Seen(**{**UP, "beat_age_s": 3.1}), "Active", "Unhealthy"),
        (Seen(pod="Failed"), "Active", "Failed"),
        (Seen(), "Active", "Failed"),
        (Seen(**UP), "Failed", "Failed"),
        (Seen(**UP, deleting=True), "Active", "Terminating"),
        (Seen(**UP), "Terminating", "Terminating"),
    ],
)
def test_a_phase_follows_from_what_is_seen(seen: Seen, before: Phase, phase: Phase) -> None:
    assert derive(seen, HEALTH, before) == phase


SEEN = st.builds(
    Seen,
    deleting=st.booleans(),
    pod=st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed"]),
    running_for_s=st.floats(0, 200),
    beat_age_s=st.one_of(st.none(), st.floats(0, 10)),
    rooms=st.integers(0, 9),
    capacity_rooms=st.integers(1, 8),
    drain=st.booleans(),
)


@given(st.lists(SEEN, max_size=12))
def test_no_history_asks_for_what_is_forbidden(history: list[Seen]) -> None:
    phase: Phase = "Pending"
    for seen in history:
        after = derive(seen, HEALTH, phase)
        assert after in get_args(Phase)
        assert phase != "Terminating" or after == "Terminating"
        assert phase != "Failed" or after in ("Failed", "Terminating")
        phase = after


def test_creation_starts_slowly_and_waits_after_a_failure() -> None:
    pace = SlowStart()
    batches = []
    for _ in range(9):
        batches.append(pace.allowance(0))
        pace = pace.succeeded(pace.allowance(0))
    assert batches == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    first = pace.failed(100)
    assert [first.allowance(129), first.allowance(130)] == [0, 1]
    assert first.failed(130).held_until == 190
    assert pace.succeeded(3).allowance(0) == 64


def test_reserved_numbers_are_ranges_and_single_ones() -> None:
    reserved = ordinals.parse_reserved(["3", "7-9", "5-4"])
    assert [n for n in range(12) if n in reserved] == [3, 7, 8, 9]
    assert ordinals.free({0, 1}, reserved, 5) == (2, 4, 5, 6, 10)
    assert ordinals.server_name("arena", 7) == "arena-7"
