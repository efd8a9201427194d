"""What a set's status says: numbers, revisions, and conditions that explain the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rallypoint.fleet.domain.game_server_set import (
    GameServerSet,
    GameServerSetStatus,
    Usage,
)
from rallypoint.fleet.domain.observed import merged, time_text
from rallypoint.fleet.domain.pods import SET
from rallypoint.fleet.domain.set_plan import Plan, Server, part


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass over a set found."""

    item: GameServerSet
    wanted: int
    servers: Sequence[Server]
    players: Mapping[str, int]
    plan: Plan
    update: str
    current: str
    failed_updates: int
    trouble: str = ""
    """Why servers could not be made, or another thing that people must look at."""
    owned_elsewhere: str = ""
    """Who else writes spec.replicas, although the set has autoscaling."""
    scaled: tuple[float, str] | None = None
    """When the wanted number changed, and why."""
    now: float = 0.0


def selector(set_name: str) -> str:
    """Return what finds a set's pods."""
    return f"{SET}={set_name}"


def wanted(item: GameServerSet) -> int:
    """Return how many servers the spec asks for now.

    Autoscaling whose number somebody took out of the spec goes on from what was wanted last.
    """
    scaling = item.spec.autoscaling
    if item.spec.replicas is not None:
        return item.spec.replicas
    if scaling is None:
        return 0
    last = item.status.desired_replicas if item.status else 0
    return min(max(last, scaling.min), scaling.max)


def current_revision(servers: Sequence[Server], before: str, update: str) -> str:
    """Return the revision that an update comes from, or the newest when none is under way."""
    living = Counter(s.revision for s in servers if s.phase != "Terminating")
    old = {name: count for name, count in living.items() if name != update}
    if not old:
        return update
    return before if before in old else max(old, key=lambda name: (old[name], name))


def status(report: Report) -> GameServerSetStatus:
    """Return the whole status."""
    item, servers = report.item, report.servers
    before = item.status or GameServerSetStatus()
    live = [s for s in servers if s.phase not in ("Terminating", "Failed")]
    ready = [s for s in live if s.available]
    capacity = item.spec.capacity
    at, reason = report.scaled or (0.0, before.last_scale_reason)
    return GameServerSetStatus(
        observed_generation=item.metadata.generation,
        selector=selector(item.metadata.name),
        replicas=len(live),
        desired_replicas=report.wanted,
        ready_replicas=len(ready),
        empty_replicas=sum(not s.occupied for s in ready),
        occupied_replicas=sum(s.rooms > 0 for s in live),
        draining_replicas=sum(s.drain or s.node_leaving for s in live),
        updated_replicas=sum(s.revision == report.update for s in live),
        failed_replicas=sum(s.phase in ("Failed", "Unhealthy") for s in servers),
        rooms=Usage(used=sum(s.rooms for s in live), capacity=len(ready) * capacity.rooms),
        players=Usage(
            used=sum(report.players.get(s.name, 0) for s in live),
            capacity=len(ready) * capacity.players,
        ),
        current_revision=report.current,
        update_revision=report.update,
        collision_count=before.collision_count,
        last_scale_time=time_text(at) if report.scaled else before.last_scale_time,
        last_scale_reason=reason[:1024],
        conditions=merged(
            before.conditions, _conditions(report, len(ready)), now=report.now,
            generation=item.metadata.generation,
        ),
    )  # fmt: skip


def _conditions(report: Report, ready: int) -> Mapping[str, tuple[bool, str, str]]:
    spec, plan = report.item.spec, report.plan
    least = report.wanted - part(spec.update.max_unavailable, report.wanted, up=False)
    enough = ready >= max(0, least)
    failed = [s.name for s in report.servers if s.phase in ("Failed", "Unhealthy")]
    return {
        "Available": (
            enough, "EnoughReady" if enough else "TooFewReady",
            f"{ready} of {report.wanted} wanted servers are ready",
        ),
        "Progressing": _progressing(report, ready),
        "ScalingLimited": (
            plan.limited, "Limited" if plan.limited else "Free", _limited(report),
        ),
        "UpdateStalled": (
            plan.stalled, "TooManyFailed" if plan.stalled else "Going",
            f"{report.failed_updates} servers of {report.update} failed: correct the template, "
            "or raise update.maxFailed" if plan.stalled else "",
        ),
        "ReplicasOwnedElsewhere": (
            bool(report.owned_elsewhere), "Conflict" if report.owned_elsewhere else "Ours",
            report.owned_elsewhere,
        ),
        "Degraded": _degraded(report.trouble, failed),
    }  # fmt: skip


def _progressing(report: Report, ready: int) -> tuple[bool, str, str]:
    plan = report.plan
    updated = sum(s.revision == report.update and s.available for s in report.servers)
    if plan.stalled:
        return False, "Stalled", "the update goes no further"
    if report.item.spec.update.paused and report.current != report.update:
        return False, "Paused", f"{updated} servers have the newest revision"
    if plan.creates or plan.retires or plan.drains or ready < report.wanted:
        return True, "Changing", f"{len(plan.creates)} to make, {len(plan.retires)} to let go"
    return False, "Settled", ""


def _limited(report: Report) -> str:
    if not report.plan.limited:
        return ""
    if report.plan.target > report.wanted:
        more = report.plan.target - report.wanted
        return f"{more} more than wanted are occupied or claimed: they stay until they are empty"
    return "as many as may be under way are; or those that are left were not idle for long enough"


def _degraded(trouble: str, failed: Sequence[str]) -> tuple[bool, str, str]:
    if trouble:
        return True, "Trouble", trouble
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        return True, "ServersFailed", ", ".join(failed[:3]) + more
    return False, "Healthy", ""
