"""When a ticket ends that somebody, or nobody, attends to."""

from __future__ import annotations

import pytest

from rallypoint.matchmaking.domain import attention
from rallypoint.matchmaking.domain.hub import Hub

NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("unattended_s", "left_s", "lives_s"),
    [
        pytest.param(20, 600, 20, id="attention runs out first"),
        pytest.param(20, 20, 20, id="both at once"),
        pytest.param(20, 7, 7, id="never past the time to live"),
        pytest.param(20, -3, -3, id="the time to live is over"),
        pytest.param(0, 600, 600, id="off"),
        pytest.param(1.5, 600, 1.5, id="fractions"),
    ],
)
def test_a_ticket_ends_by_the_earlier_of_two_times(
    unattended_s: float, left_s: float, lives_s: float
) -> None:
    expire_ms = NOW_MS + int(left_s * 1000)
    until = attention.until_ms(NOW_MS, unattended_s=unattended_s, expire_ms=expire_ms)
    assert until == NOW_MS + int(lives_s * 1000)


@pytest.mark.parametrize("unattended_s", [1.0, 2.5, 20.0, 3600.0])
def test_a_refresh_that_is_just_not_late_keeps_the_ticket(unattended_s: float) -> None:
    stall_s = attention.LATE_SHARE * unattended_s
    assert not attention.is_late(stall_s, unattended_s)
    assert attention.refresh_s(unattended_s) + stall_s < unattended_s
    assert attention.sweep_s(unattended_s) < stall_s


@pytest.mark.parametrize(
    ("since_s", "unattended_s", "late"),
    [(None, 20, True), (1.1, 20, False), (11, 20, True), (-5, 20, False), (None, 0, True)],
    ids=["first", "in time", "after a pause", "clock set back", "off, first"],
)
def test_first_and_late_sweeps_are_told(
    since_s: float | None, unattended_s: float, late: bool
) -> None:
    assert attention.is_late(since_s, unattended_s) is late


def test_without_the_rule_sweeps_keep_their_pace() -> None:
    assert attention.sweep_s(0) == attention.sweep_s(600) == attention.SWEEP_MAX_S
    assert attention.sweep_s(2) == 0.5


def test_only_watchers_who_are_the_player_attend() -> None:
    room = Hub()
    stranger, one, two = (room.open(name, lambda: None) for name in ("t1", "t2", "t2"))
    assert room.watched() == {}
    one.expire_ms = two.expire_ms = NOW_MS
    assert room.watched() == {"t2": NOW_MS}
    room.close(one)
    assert room.watched() == {"t2": NOW_MS}
    room.close(two)
    room.close(stranger)
    assert room.watched() == {}
