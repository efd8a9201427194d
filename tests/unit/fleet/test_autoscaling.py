"""Autoscaling: the highest need counts, growth and shrinking are bounded, schedules are floors."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.fleet.domain import autoscaling, cron
from rallypoint.fleet.domain.autoscaling import History, Load, Need, decide, need
from rallypoint.fleet.domain.game_server_set import (
    Autoscaling,
    Policy,
    ScaleInPace,
    ScaleOutPace,
    Schedule,
)

ROOMS = Policy(name="rooms", type="RoomBuffer", buffer="20%")
NOON = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)  # a Thursday


def asks(policy: Policy, now: datetime.datetime = NOON, **load: int) -> int | None:
    found = need(policy, Load(**load), rooms_each=8, players_each=64, now=now, asked={"hook": 9})
    return found.servers if found else None


@pytest.mark.parametrize(
    ("policy", "load", "servers"),
    [
        (ROOMS, {"rooms": 64}, 10),
        (ROOMS, {"rooms": 60, "claimed": 4}, 10),
        (ROOMS, {"rooms": 64, "stuck_rooms": 8, "lost_servers": 1}, 10),
        (ROOMS, {"rooms": 60, "unmet": 4}, 10),
        (ROOMS, {}, 0),
        (Policy(name="r", type="RoomBuffer", buffer=8), {"rooms": 9}, 3),
        (Policy(name="p", type="PlayerBuffer", buffer=64), {"players": 65}, 3),
        (Policy(name="s", type="ServerBuffer", buffer=2), {"occupied_servers": 5}, 7),
        (Policy(name="p", type="PlayerBuffer"), {"players": 65, "unmet": 9}, 4),
        (Policy(name="s", type="ServerBuffer"), {"unmet": 1}, 1),
        (Policy(name="hook", type="Webhook"), {}, 9),
        (Policy(name="silent", type="Webhook"), {}, None),
    ],
)
def test_each_policy_asks_for_what_its_buffer_says(
    policy: Policy, load: dict[str, int], servers: int | None
) -> None:
    assert asks(policy, **load) == servers


EVENING = Schedule(cron="0 18 * * fri", time_zone="Europe/Berlin", duration="6h", floor=40)


@pytest.mark.parametrize(
    ("when", "servers"),
    [
        ("2026-11-27T16:59+00:00", None),
        ("2026-11-27T17:00+00:00", 40),
        ("2026-11-27T22:59+00:00", 40),
        ("2026-11-27T23:00+00:00", None),
        ("2026-07-03T16:00+00:00", 40),  # summer time: an hour earlier
        ("2026-11-26T18:00+00:00", None),
    ],
)
def test_a_schedule_is_a_floor_in_its_own_zone(when: str, servers: int | None) -> None:
    policy = Policy(name="evening", type="Schedule", schedule=EVENING)
    assert asks(policy, datetime.datetime.fromisoformat(when)) == servers


def spec(**known: Any) -> Autoscaling:
    usual: dict[str, Any] = {"min": 0, "max": 100, "policies": (ROOMS,)}
    return Autoscaling(**{**usual, **known})


def test_the_highest_need_counts_within_the_bounds() -> None:
    needs = [Need(5, "rooms"), Need(9, "evening")]
    assert decide(spec(), needs, current=5, now=0).desired == 9
    most = decide(spec(max=7), needs, current=5, now=0)
    assert (most.desired, most.limited, most.reason) == (7, True, "evening needs 9, max is 7")
    assert decide(spec(min=12), needs, current=8, now=0).desired == 12


def test_growth_at_most_doubles_in_a_period() -> None:
    pace = ScaleOutPace(max_step="100%", period_seconds=15)
    history, current, seen = History(), 4, []
    for now in (0, 5, 14, 15, 30):
        result = decide(
            spec(scale_out=pace), [Need(100, "rooms")], current=current, now=now, history=history
        )
        history, current = result.history, result.desired
        seen.append(current)
    assert seen == [8, 8, 8, 16, 32]


def test_the_first_server_comes_from_none() -> None:
    assert decide(spec(), [Need(3, "rooms")], current=0, now=0).desired == 1


def test_shrinking_waits_for_the_window_and_goes_by_steps() -> None:
    pace = ScaleInPace(stabilization_seconds=60, max_step="20%", period_seconds=10)
    history, current, seen = History(), 50, []
    for now, wanted in ((0, 50), (30, 10), (59, 10), (61, 10), (66, 10), (72, 10), (200, 10)):
        result = decide(
            spec(scale_in=pace), [Need(wanted, "rooms")], current=current, now=now, history=history
        )
        history, current = result.history, result.desired
        seen.append(current)
    assert seen == [50, 50, 50, 40, 40, 32, 26]


def test_without_an_opinion_nothing_changes() -> None:
    assert decide(spec(), [], current=7, now=0).desired == 7


NEEDS = st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 150)), min_size=1, max_size=60)


@given(NEEDS)
def test_the_number_stays_in_bounds_and_settles(needs: list[tuple[float, int]]) -> None:
    wanted = spec(min=2, max=100)
    history, current, now = History(), 10, 0.0
    for pause, servers in needs:
        now += pause
        result = decide(wanted, [Need(servers, "rooms")], current=current, now=now, history=history)
        assert 2 <= result.desired <= 100
        assert len(result.history.needs) <= len(needs) + 1
        up = min(max(servers, 2), 100) - current
        assert (result.desired - current) * up >= 0  # never the wrong way
        history, current = result.history, result.desired
    goal = min(max(needs[-1][1], 2), 100)
    for _ in range(100):
        now += 61
        need_now = [Need(needs[-1][1], "rooms")]
        result = decide(wanted, need_now, current=current, now=now, history=history)
        history, current = result.history, result.desired
    assert current == goal


@pytest.mark.parametrize(
    ("line", "when", "fires"),
    [
        ("*/15 * * * *", "2026-11-26T12:30", True),
        ("*/15 * * * *", "2026-11-26T12:31", False),
        ("0 9-17 * * mon-fri", "2026-11-26T17:00", True),
        ("0 9-17 * * 1-5", "2026-11-28T17:00", False),
        ("0 0 1 jan *", "2027-01-01T00:00", True),
        ("0 0 13 * 5", "2026-11-13T00:00", True),
        ("0 0 13 * 5", "2026-11-20T00:00", True),
        ("0 0 13 * 5", "2026-11-19T00:00", False),
        ("0 0 * * 7", "2026-11-29T00:00", True),
        ("5,10 0 * * *", "2026-11-29T00:10", True),
    ],
)
def test_cron_lines_fire_as_cron_has_it(line: str, when: str, fires: bool) -> None:
    assert cron.parse(line).fires(datetime.datetime.fromisoformat(when)) is fires


@pytest.mark.parametrize(
    "line", ["* * * *", "60 * * * *", "* * * * fri-mon", "*/0 * * * *", "x * * * *"]
)
def test_bad_cron_lines_say_what_is_wrong(line: str) -> None:
    with pytest.raises(cron.CronError):
        cron.parse(line)


LINES = st.sampled_from(["0 18 * * *", "*/7 3-5 * * 1", "30 2 1,15 * *", "0 0 29 2 *"])


@given(LINES, st.datetimes(datetime.datetime(2026, 1, 1), datetime.datetime(2029, 1, 1)))
def test_the_last_time_is_found_as_by_looking_at_every_minute(
    line: str, now: datetime.datetime
) -> None:
    schedule, minute = cron.parse(line), datetime.timedelta(minutes=1)
    within = datetime.timedelta(hours=8)
    begin = now.replace(second=0, microsecond=0)
    minutes = (begin - minute * n for n in range(481))
    slow = next((at for at in minutes if at > now - within and schedule.fires(at)), None)
    assert schedule.last(now, within=within) == slow


def test_durations_are_hours_minutes_and_seconds() -> None:
    assert autoscaling.duration("1h30m").total_seconds() == 5400
    for bad in ("", "soon", "5", "1d"):
        with pytest.raises(ValueError, match="not a duration"):
            autoscaling.duration(bad)
