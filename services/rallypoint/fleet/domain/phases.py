"""The phase of a server, derived from what is seen of it: level-triggered, with one writer.

Draining is occupied and leaving; a server that is fenced and empty says so in a condition. What the
API server forbids (leaving Terminating; leaving Failed but to terminate) is never asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rallypoint.fleet.domain.game_server import Phase
from rallypoint.fleet.domain.game_server_set import Health

PodPhase = Literal["", "Pending", "Running", "Succeeded", "Failed"]
LIVING: frozenset[Phase] = frozenset(
    {"Starting", "Ready", "Active", "Full", "Draining", "Unhealthy"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known at one moment. Ages are seconds; None means never."""

    deleting: bool = False
    pod: PodPhase = ""
    running_for_s: float = 0.0
    beat_age_s: float | None = None
    rooms: int = 0
    capacity_rooms: int = 1
    drain: bool = False


def derive(seen: Seen, health: Health, before: Phase) -> Phase:
    """Return the phase of a server that was in `before`."""
    if seen.deleting or before == "Terminating":
        return "Terminating"
    ended = seen.pod in ("Succeeded", "Failed")
    vanished = seen.pod == "" and before in LIVING
    if ended or vanished or before == "Failed":
        return "Failed"
    if seen.pod != "Running":
        return "Pending"
    if seen.beat_age_s is None:
        return "Unhealthy" if seen.running_for_s > health.startup_seconds else "Starting"
    if seen.beat_age_s > health.heartbeat_seconds * health.failure_threshold:
        return "Unhealthy"
    return _occupied(seen) if seen.rooms else "Ready"


def _occupied(seen: Seen) -> Phase:
    if seen.drain:
        return "Draining"
    return "Full" if seen.rooms >= seen.capacity_rooms else "Active"
