"""A server put together from its object, its pod and its heartbeats."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rallypoint.fleet.domain import observed
from rallypoint.fleet.domain.ears import Ears
from rallypoint.fleet.domain.game_server import (
    NETWORK_HEALTHY,
    Condition,
    DrainStatus,
    GameServer,
    GameServerSpec,
    GameServerStatus,
    Occupancy,
)
from rallypoint.fleet.domain.game_server_set import GameServerSet, GameServerSetSpec, Update
from rallypoint.fleet.domain.nodes import Load, Node, Sighting
from rallypoint.fleet.domain.observed import Sight
from rallypoint.fleet.domain.set_plan import Plan, Server, plan
from rallypoint.fleet.domain.set_status import Report, current_revision, status
from rallypoint.fleet.domain.workload import Machine, NodeSpec, Pod, PodSpec, PodStatus, Taint
from rallypoint.kube.objects import ObjectMeta

SPEC = GameServerSetSpec()
NODE = Node("arena-3", "i1", "10.0.0.3:9090", "arena", frozenset(), 4)
RUNNING = Pod(
    metadata=ObjectMeta(name="arena-3", uid="p1", creation_timestamp="2026-11-26T12:00:00Z"),
    spec=PodSpec(node_name="n1"),
    status=PodStatus(phase="Running", pod_ip="10.0.0.3", start_time="2026-11-26T12:00:00Z"),
)
NOW = 1_795_694_460.0  # a minute later


def heard(rooms: int = 0, *, age_s: float = 0.5, steady: float = 100.0) -> Sighting:
    """A node as it was heard some time ago."""
    empty_since = None if rooms else steady - 20
    return Sighting(NODE, Load(rooms=rooms, players=2 * rooms), steady - age_s, empty_since, True)


def sight(before: GameServerStatus | None = None, **changes: Any) -> Sight:
    """A ready server."""
    meta = ObjectMeta(name="arena-3", uid="s1", creation_timestamp="2026-11-26T12:00:00Z")
    server = GameServer(
        metadata=meta,
        spec=GameServerSpec(set_name="arena", ordinal=3, drain=changes.pop("drain", False)),
        status=before,
    )
    usual: dict[str, Any] = {
        "pod": RUNNING, "machine": None, "heard": heard(), "blind": False, "now": NOW,
        "steady": 100.0,
    }  # fmt: skip
    return Sight(server=server, **{**usual, **changes})


@pytest.mark.parametrize(
    ("before", "changes", "phase"),
    [
        ("Starting", {}, "Ready"),
        ("Ready", {"heard": heard(1)}, "Active"),
        ("Active", {"heard": heard(4)}, "Full"),
        ("Active", {"heard": heard(1), "drain": True}, "Draining"),
        ("Active", {"heard": heard(1, age_s=9)}, "Unhealthy"),
        ("Active", {"heard": heard(1, age_s=9), "blind": True}, "Active"),
        ("Active", {"heard": heard(), "blind": True}, "Ready"),
        ("Active", {"heard": None, "blind": True}, "Active"),
        ("Active", {"pod": None, "blind": True}, "Failed"),
        ("Pending", {"heard": None, "blind": True}, "Starting"),
    ],
)
def test_the_phase_comes_from_what_is_seen_and_never_from_being_deaf(
    before: Any, changes: dict[str, Any], phase: str
) -> None:
    assert observed.phase(sight(GameServerStatus(phase=before), **changes), SPEC) == phase


def test_a_status_is_written_at_edges_and_counts_only_now_and_then() -> None:
    first = observed.status(sight(), SPEC, epoch=7)
    assert (first.phase, first.address, first.pod_uid) == ("Ready", "10.0.0.3:9090", "p1")
    assert first.occupancy is not None
    assert first.occupancy.epoch == 7
    assert observed.worth_writing(None, first, NOW)
    one = observed.status(sight(first, heard=heard(1)), SPEC, epoch=7)
    assert observed.worth_writing(first, one, NOW)
    two = observed.status(sight(one, heard=heard(2)), SPEC, epoch=7)
    assert not observed.worth_writing(one, two, NOW + 5)
    assert observed.worth_writing(one, two, NOW + 31)
    assert not observed.worth_writing(one, one, NOW + 31)
    network = Condition(type=NETWORK_HEALTHY, status="False")  # the probe's, not ours to write
    told = msgspec.structs.replace(one, conditions=(*one.conditions, network))
    assert not observed.worth_writing(told, one, NOW + 31)


def test_a_drain_keeps_its_beginning_and_tells_its_end() -> None:
    going = Machine(spec=NodeSpec(taints=(Taint(key="ToBeDeletedByClusterAutoscaler"),)))
    begun = observed.status(sight(drain=True, machine=going), SPEC, epoch=1).drain
    assert begun is not None
    assert (begun.reason, begun.since, begun.deadline) == (
        "NodeLeaving", "2026-11-26T12:01:00Z", "2026-11-26T12:31:00Z",
    )  # fmt: skip
    later = sight(GameServerStatus(phase="Draining", drain=begun), drain=True, now=NOW + 60)
    assert observed.status(later, SPEC, epoch=1).drain == begun


def test_the_plan_sees_claims_idleness_and_pods_that_others_end() -> None:
    ready = GameServerStatus(phase="Ready", node_name="n1")
    seen = observed.server(sight(ready), claims=2, fenced=True)
    assert (seen.rooms, seen.claims, seen.fenced, seen.node) == (0, 2, True, "n1")
    assert seen.since == NOW - 20
    ending = Pod(metadata=ObjectMeta(deletion_timestamp="2026-11-26T12:01:00Z"))
    assert observed.server(sight(ready, pod=ending), claims=0, fenced=False).phase == "Terminating"
    unheard = GameServerStatus(phase="Active", occupancy=Occupancy(rooms=1, capacity_rooms=4))
    assert observed.server(sight(unheard, heard=None), claims=1, fenced=False).rooms == 1


def test_ears_tell_who_fell_silent_and_who_came_back_once() -> None:
    ears = Ears(listening_since=0.0)
    assert ears.blind(1.0)
    assert not ears.blind(6.0)
    ears.deaf(6.0)
    assert ears.blind(7.0)
    assert ears.due([heard()], 100.0, silence_s=3) == []
    assert ears.due([heard()], 104.0, silence_s=3) == ["arena-3"]
    assert ears.due([heard()], 105.0, silence_s=3) == []
    assert ears.due([heard(steady=106.0)], 106.0, silence_s=3) == ["arena-3"]
    assert ears.due([], 107.0, silence_s=3) == ["arena-3"]


def test_counts_that_were_not_told_are_told_in_time() -> None:
    ears = Ears(listening_since=0.0)
    assert ears.due([heard(1)], 100.0, silence_s=90) == []
    assert ears.due([heard(2)], 110.0, silence_s=90) == []
    assert ears.due([heard(2)], 131.0, silence_s=90) == ["arena-3"]


def server(ordinal: int, **known: Any) -> Server:
    return Server(
        **{"name": f"a-{ordinal}", "ordinal": ordinal, "revision": "old", "phase": "Ready", **known}
    )


def test_sessions_of_an_old_revision_end_and_a_drain_may_be_forced() -> None:
    update = Update(max_session_seconds=60, max_surge=1)
    old = [server(0, rooms=1), server(1, rooms=1)]
    usual: dict[str, Any] = {"revision": "new", "replicas": 2, "servers": old, "current": "old"}
    spec = GameServerSetSpec(update=update)
    early = plan(spec, now=30.0, superseded_since=0.0, **usual)
    assert (early.drains, early.look_again) == ((), 60.0)
    assert plan(spec, now=61.0, superseded_since=0.0, **usual).drains == ("a-0", "a-1")
    forced = GameServerSetSpec(drain=type(SPEC.drain)(timeout_seconds=10, on_timeout="Force"))
    usual["servers"] = [server(0, rooms=1, drain=True, drain_since=5.0)]
    assert plan(forced, now=14.0, **usual).forces == ()
    assert plan(forced, now=15.0, **usual).forces == ("a-0",)


def test_new_servers_are_of_the_old_revision_while_an_update_is_held_up() -> None:
    usual: dict[str, Any] = {"revision": "new", "now": 0.0, "current": "old", "replicas": 4}
    paused = GameServerSetSpec(update=Update(paused=True))
    assert plan(paused, servers=[server(0)], **usual).revisions == ("old",) * 3
    parted = GameServerSetSpec(update=Update(partition=2))
    assert plan(parted, servers=[server(0)], **usual).revisions[:2] == ("old", "new")
    assert (
        plan(GameServerSetSpec(), servers=[], **{**usual, "current": ""}).revisions == ("new",) * 4
    )


def test_a_sets_status_counts_and_explains() -> None:
    item = GameServerSet(metadata=ObjectMeta(name="a", generation=3), spec=SPEC)
    there = [
        server(0, rooms=2), server(1), server(2, phase="Failed"), server(3, phase="Terminating"),
        server(4, drain=True, rooms=1),
    ]  # fmt: skip
    found = status(
        Report(
            item=item, wanted=3, servers=there, players={"a-0": 7}, update="new", current="old",
            plan=Plan(limited=True, stalled=True), failed_updates=2, now=NOW,
        )
    )  # fmt: skip
    assert (found.replicas, found.ready_replicas, found.empty_replicas) == (3, 2, 1)
    assert (found.occupied_replicas, found.draining_replicas, found.failed_replicas) == (2, 1, 1)
    assert (found.rooms.used, found.rooms.capacity, found.players.used) == (3, 16, 7)
    known = {one.type: (one.status, one.message) for one in found.conditions}
    assert known["Available"] == ("False", "2 of 3 wanted servers are ready")
    assert known["UpdateStalled"][1].startswith("2 servers of new failed")
    assert known["Degraded"] == ("True", "a-2")


def test_the_revision_before_stays_until_nobody_has_it() -> None:
    mixed = [server(0), server(1, revision="new"), server(2, revision="older")]
    assert current_revision(mixed, "older", "new") == "older"
    assert current_revision(mixed, "", "new") in ("old", "older")
    assert current_revision([server(1, revision="new")], "old", "new") == "new"


def test_an_observed_drain_status_is_what_the_plan_counts_from() -> None:
    begun = DrainStatus(since="2026-11-26T12:00:30Z")
    seen = sight(GameServerStatus(phase="Draining", drain=begun), drain=True)
    assert observed.server(seen, claims=0, fenced=False).drain_since == NOW - 30
