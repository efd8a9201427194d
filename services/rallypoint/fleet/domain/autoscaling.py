"""How many servers a set needs, and how fast it may get there: one number and its reason.

    needs (one per policy) ──max──▶ need ──min, max──▶ ──steps, stabilisation──▶ desired

What is free on servers that drain, fail or are superseded does not count: no new room goes there.
What is starting does, or each pass would order the same servers again.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from rallypoint.fleet.domain import cron
from rallypoint.fleet.domain.game_server_set import Autoscaling, Policy, Schedule
from rallypoint.fleet.domain.set_plan import part

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is used. `stuck` are rooms (or players) on servers that take no new ones."""

    rooms: int = 0
    claimed: int = 0
    players: int = 0
    unmet: int = 0
    """Rooms that were asked for lately, and refused for want of a slot."""
    occupied_servers: int = 0
    lost_servers: int = 0
    """Servers that are there but take no rooms: they are needed on top until they are gone."""
    stuck_rooms: int = 0
    stuck_players: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What one policy asks for."""

    servers: int
    policy: str


@dataclass(frozen=True, slots=True)
class Step:
    """A change that was made: when and from how many to how many."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class History:
    """What later decisions depend on. Times are monotonic seconds; old entries are dropped."""

    needs: tuple[tuple[float, int], ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The wanted number now, why, and whether a limit kept it from the need."""

    desired: int
    reason: str
    limited: bool
    history: History


def with_buffer(used: int, buffer: int | str) -> float:
    """Return what must be there so that the buffer is free; a percentage is of what is there."""
    text = str(buffer)
    if not text.endswith("%"):
        return used + int(text)
    share = min(int(text[:-1]), 99) / 100
    return used / (1.0 - share)


def need(
    policy: Policy,
    load: Load,
    *,
    rooms_each: int,
    players_each: int,
    now: datetime.datetime,
    asked: Mapping[str, int],
) -> Need | None:
    """Return what a policy asks for at this moment; None when it has no opinion.

    `asked` holds the answers of webhooks by the policy's name, asked elsewhere.
    """
    buffer = policy.buffer if policy.buffer is not None else 0
    # Nobody knows the players of who was refused: servers for their rooms come on top.
    more = math.ceil(load.unmet / rooms_each) + load.lost_servers
    servers: int | None
    match policy.type:
        case "RoomBuffer":
            used = load.rooms - load.stuck_rooms + load.claimed + load.unmet
            servers = math.ceil(with_buffer(used, buffer) / rooms_each) + load.lost_servers
        case "PlayerBuffer":
            used = load.players - load.stuck_players
            servers = math.ceil(with_buffer(used, buffer) / players_each) + more
        case "ServerBuffer":
            servers = math.ceil(with_buffer(load.occupied_servers, buffer)) + more
        case "Schedule":
            open_now = policy.schedule is not None and is_open(policy.schedule, now)
            servers = policy.schedule.floor if policy.schedule and open_now else None
        case "Webhook":
            servers = asked.get(policy.name)
    return None if servers is None else Need(servers, policy.name)


def is_open(schedule: Schedule, now: datetime.datetime) -> bool:
    """Tell whether a schedule's time runs, by its own zone's clocks."""
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    lasts = duration(schedule.duration)
    return cron.parse(schedule.cron).last(local, within=lasts) is not None


def duration(text: str) -> datetime.timedelta:
    """Return a duration such as 1h30m; ValueError where it is none."""
    found = _DURATION.match(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration such as 1h30m")
    hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)


def decide(
    spec: Autoscaling,
    needs: Sequence[Need],
    *,
    current: int,
    now: float,
    history: History = History(),
) -> Decision:
    """Return the wanted number: the highest need, within bounds, steps and the window."""
    top = max(needs, key=lambda one: one.servers, default=Need(current, "nothing"))
    wanted = min(max(top.servers, spec.min), spec.max)
    since = now - spec.scale_in.stabilization_seconds
    seen = (*(one for one in history.needs if one[0] > since), (now, wanted))
    desired = wanted
    if wanted > current:
        desired = min(wanted, max(_ceiling(spec, history.steps, current, now), current))
    elif wanted < current:
        recent = max(number for _, number in seen)
        floor = min(_floor(spec, history.steps, current, now), current)
        desired = max(min(recent, current), floor)
    kept = max(spec.scale_out.period_seconds, spec.scale_in.period_seconds)
    steps = tuple(step for step in history.steps if step.at > now - kept)
    if desired != current:
        steps = (*steps, Step(now, current, desired))
    return Decision(
        desired=desired,
        reason=_reason(top, spec, wanted, desired, current),
        limited=desired != top.servers,
        history=History(seen, steps),
    )


def _ceiling(spec: Autoscaling, steps: Sequence[Step], current: int, now: float) -> int:
    """Return how many there may be, counted from where the period began."""
    recent = [s for s in steps if s.at > now - spec.scale_out.period_seconds and s.after > s.before]
    base = current - sum(step.after - step.before for step in recent)
    # From none a percentage allows nothing at all: the first step is one at least.
    return base + max(1, part(spec.scale_out.max_step, base, up=True))


def _floor(spec: Autoscaling, steps: Sequence[Step], current: int, now: float) -> int:
    recent = [s for s in steps if s.at > now - spec.scale_in.period_seconds and s.after < s.before]
    base = current + sum(step.before - step.after for step in recent)
    return base - max(1, part(spec.scale_in.max_step, base, up=False))


def _reason(top: Need, spec: Autoscaling, wanted: int, desired: int, current: int) -> str:
    """Say in one sentence what led to the number."""
    text = f"{top.policy} needs {top.servers}"
    if wanted != top.servers:
        text += f", {'min' if wanted > top.servers else 'max'} is {wanted}"
    if desired != wanted:
        held = "one step up" if wanted > current else "held by steps or stabilisation"
        text += f", {held}: {desired}"
    return text
