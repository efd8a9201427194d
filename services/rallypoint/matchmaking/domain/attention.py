"""How long a ticket lives on: to the end of its time, or as long as somebody attends to it.

A ticket's score among the expiries is the earlier of two moments, the end of its time to live and
`unattended_s` after somebody last attended to it. Open streams attend again four times in that
span, so a refresh may come late by a half of it and no watched ticket ends. `unattended_s` 0
leaves the time to live alone.

Nobody can tell who attended while Redis, the leader or all of matchmaking was away. So a leader
that starts, or that sweeps later than it should, takes every queued ticket for attended now, and
ends tickets only then: the players who are there get as long to come back as any other.
"""

from __future__ import annotations

SWEEP_MAX_S = 1.0
"""What is due is looked for at least this often."""
PARTS = 4
LATE_SHARE = 0.5
LATE_WITHOUT_S = 10.0


def until_ms(now_ms: int, *, unattended_s: float, expire_ms: int) -> int:
    """When a ticket ends that is attended to now; `expire_ms`: the end of its time to live."""
    if not unattended_s:
        return expire_ms
    return min(expire_ms, now_ms + round(unattended_s * 1000))


def refresh_s(unattended_s: float) -> float:
    """How often a process attends to the tickets it has streams of."""
    return unattended_s / PARTS


def sweep_s(unattended_s: float) -> float:
    """How often the leader looks for what is due."""
    return min(SWEEP_MAX_S, unattended_s / PARTS) if unattended_s else SWEEP_MAX_S


def is_late(since_sweep_s: float | None, unattended_s: float) -> bool:
    """Whether a sweep comes so late that refreshes may be missing; None: it is the first one."""
    limit = LATE_SHARE * unattended_s if unattended_s else LATE_WITHOUT_S
    return since_sweep_s is None or since_sweep_s > limit
