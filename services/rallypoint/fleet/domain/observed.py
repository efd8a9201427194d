"""A server as it is: what the API server, its pod and its heartbeats say, put together.

(object, pod, machine, heartbeat, claims, now) ──▶ its status, and the plan's `Server`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from rallypoint.fleet.domain import phases, pods, workload
from rallypoint.fleet.domain.game_server import (
    NETWORK_HEALTHY,
    Condition,
    DrainStatus,
    GameServer,
    GameServerStatus,
    Occupancy,
    Phase,
)
from rallypoint.fleet.domain.game_server_set import GameServerSetSpec
from rallypoint.fleet.domain.nodes import Sighting
from rallypoint.fleet.domain.set_plan import Server
from rallypoint.fleet.domain.workload import Machine, Pod

QUIET_S = 30.0
"""How often counts are written that are no edge."""
KEPT: frozenset[Phase] = frozenset({"Ready", "Active", "Full", "Draining", "Unhealthy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that is seen of one server at one moment; `now` is Unix seconds."""

    server: GameServer
    pod: Pod | None
    machine: Machine | None
    heard: Sighting | None
    blind: bool
    now: float
    steady: float
    """The same moment by the clock of heartbeats."""

    @property
    def beat_age_s(self) -> float | None:
        """How long ago its process was heard; None when it never was."""
        heard_at = self.heard.heard_at if self.heard else None
        return None if heard_at is None else max(0.0, self.steady - heard_at)

    @property
    def rooms(self) -> int:
        """Rooms as last heard, or as last written."""
        if self.heard is not None and self.heard.heard_at is not None:
            return self.heard.load.rooms
        return self.before.occupancy.rooms if self.before.occupancy else 0

    @property
    def empty_since(self) -> float:
        """Since when it has no rooms, as far as we know, in Unix seconds."""
        since = self.heard.empty_since if self.heard else None
        return self.now if since is None else self.now - (self.steady - since)

    @property
    def before(self) -> GameServerStatus:
        """The status as it was written last."""
        return self.server.status or GameServerStatus()


def phase(sight: Sight, spec: GameServerSetSpec) -> Phase:
    """Return the phase now."""
    server, pod, heard = sight.server, sight.pod, sight.heard
    before = sight.before.phase
    deleting = server.metadata.deletion_timestamp or (pod and pod.metadata.deletion_timestamp)
    pod_phase = pods.phase(pod, now=sight.now, startup_s=spec.health.startup_seconds)
    silent_s = spec.health.heartbeat_seconds * spec.health.failure_threshold
    unheard = sight.beat_age_s is None or sight.beat_age_s > silent_s
    if sight.blind and unheard and not deleting and pod_phase == "Running" and before in KEPT:
        return before
    name = spec.template.spec.container
    seen = phases.Seen(
        deleting=bool(deleting),
        pod=pod_phase,
        running_for_s=0.0 if sight.blind else pods.running_for_s(pod, name, sight.now),
        beat_age_s=sight.beat_age_s,
        rooms=heard.load.rooms if heard else 0,
        capacity_rooms=_capacity(heard, spec),
        drain=server.spec.drain,
    )
    return phases.derive(seen, spec.health, before)


def status(sight: Sight, spec: GameServerSetSpec, *, epoch: int) -> GameServerStatus:
    """Return the status as it should be written, without the claims, which are not ours."""
    server, pod, before = sight.server, sight.pod, sight.before
    found = phase(sight, spec)
    here = pod.status if pod and pod.status else workload.PodStatus()
    return GameServerStatus(
        phase=found,
        pod_name=pod.metadata.name if pod else before.pod_name,
        pod_uid=pod.metadata.uid if pod else before.pod_uid,
        node_name=pod.spec.node_name if pod else before.node_name,
        address=sight.heard.node.address if sight.heard else here.pod_ip,
        occupancy=_occupancy(sight, spec, epoch),
        drain=_drain(server, spec, sight),
        conditions=_conditions(sight, found),
    )


def _capacity(heard: Sighting | None, spec: GameServerSetSpec) -> int:
    return heard.node.capacity if heard else spec.capacity.rooms


def _occupancy(sight: Sight, spec: GameServerSetSpec, epoch: int) -> Occupancy | None:
    heard = sight.heard
    if heard is None or sight.beat_age_s is None:
        return sight.before.occupancy
    capacity = max(heard.load.rooms, _capacity(heard, spec))
    return Occupancy(
        rooms=heard.load.rooms,
        players=heard.load.players,
        capacity_rooms=capacity,
        heartbeat_time=time_text(sight.now - sight.beat_age_s),
        epoch=epoch,
    )


def _drain(server: GameServer, spec: GameServerSetSpec, sight: Sight) -> DrainStatus | None:
    if not server.spec.drain:
        return None
    known = sight.before.drain
    if known is not None:
        return known
    reason = "NodeLeaving" if workload.is_leaving(sight.machine) else "Asked"
    return DrainStatus(
        reason=reason,
        since=time_text(sight.now),
        deadline=time_text(sight.now + spec.drain.timeout_seconds),
    )


def _conditions(sight: Sight, found: Phase) -> tuple[Condition, ...]:
    running = sight.pod is not None and sight.pod.status is not None
    up = running and sight.pod.status.phase == "Running"  # type: ignore[union-attr]
    trouble = pods.trouble(sight.pod) if sight.pod else "its pod is gone"
    wanted = {
        "PodReady": (up, "Running" if up else "NotRunning", "" if up else trouble),
        "Healthy": _health(found, silent=sight.beat_age_s is None),
    }
    return merged(sight.before.conditions, wanted, now=sight.now)


def _health(found: Phase, *, silent: bool) -> tuple[bool, str, str]:
    if found in ("Pending", "Starting"):
        return False, "Starting", ""
    if found in ("Unhealthy", "Failed"):
        return False, "Silent" if silent else "Failed", ""
    return (False, "Leaving", "") if found == "Terminating" else (True, "Heartbeat", "")


def merged(
    before: tuple[Condition, ...],
    wanted: Mapping[str, tuple[bool, str, str]],
    *,
    now: float,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return conditions that keep the time of their last change."""
    known = {one.type: one for one in before}
    result = []
    for kind, (true, reason, message) in wanted.items():
        old, text = known.get(kind), "True" if true else "False"
        since = old.last_transition_time if old and old.status == text else time_text(now)
        made = Condition(
            type=kind, status="True" if true else "False", reason=reason,
            message=message[:1024], last_transition_time=since, observed_generation=generation,
        )  # fmt: skip
        result.append(made)
    return tuple(result)


def worth_writing(before: GameServerStatus | None, after: GameServerStatus, now: float) -> bool:
    """Tell whether a status is to be written: at each edge, and counts now and then."""
    if before is None:
        return True
    if _edges(before) != _edges(after):
        return True
    old, new = before.occupancy, after.occupancy
    if old is None or new is None:
        return old is not new
    if (old.rooms, old.players) == (new.rooms, new.players):
        return False
    return now - pods.seconds(old.heartbeat_time, 0.0) >= QUIET_S


def _edges(one: GameServerStatus) -> GameServerStatus:
    known = one.occupancy
    edge = None
    if known is not None:
        edge = Occupancy(rooms=min(known.rooms, 1), capacity_rooms=known.capacity_rooms)
    ours = tuple(each for each in one.conditions if each.type != NETWORK_HEALTHY)
    return msgspec.structs.replace(one, claims=(), occupancy=edge, conditions=ours)


def server(sight: Sight, *, claims: int, fenced: bool) -> Server:
    """Return what the plan needs to know; `claims` are slots that Redis counts as used."""
    item, before = sight.server, sight.before
    spec, meta = item.spec, item.metadata
    created = pods.seconds(meta.creation_timestamp, sight.now)
    going = meta.deletion_timestamp or (sight.pod and sight.pod.metadata.deletion_timestamp)
    return Server(
        name=meta.name,
        ordinal=spec.ordinal,
        revision=spec.revision,
        phase="Terminating" if going else before.phase,
        rooms=sight.rooms,
        claims=max(0, claims - sight.rooms),
        since=max(created, sight.empty_since),
        created=created,
        node=before.node_name,
        node_leaving=workload.is_leaving(sight.machine),
        drain=spec.drain,
        drain_since=pods.seconds(before.drain.since, sight.now) if before.drain else None,
        fenced=fenced,
        deletion_cost=spec.deletion_cost,
        update_priority=spec.update_priority,
    )


def protected(eviction: str, *, rooms: int) -> bool:
    """Tell whether a server's pod may not be evicted."""
    return rooms > 0 if eviction == "WhileEmpty" else eviction == "Never"


def time_text(seconds: float) -> str:
    """Return a time as the API server writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
