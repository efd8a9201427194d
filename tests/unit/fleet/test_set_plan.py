"""The plan for a set: never an occupied server, never an ordinal twice, and it gets there."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.fleet.domain.game_server_set import GameServerSetSpec, ScaleIn, Update
from rallypoint.fleet.domain.set_plan import Limits, Plan, Server, part, plan

PLAIN = GameServerSetSpec(scale_in=ScaleIn(min_idle_seconds=60))
NOW = 10_000.0


def server(ordinal: int, **known: Any) -> Server:
    """A ready, empty server of the newest revision that has been idle for long."""
    usual = {"name": f"arena-{ordinal}", "revision": "new", "phase": "Ready", "node": "n1"}
    return Server(ordinal=ordinal, **{**usual, **known})


def planned(servers: list[Server], replicas: int, **how: Any) -> Plan:
    known = {"revision": "new", "now": NOW, **how}
    return plan(known.pop("spec", PLAIN), replicas=replicas, servers=servers, **known)


def retired(result: Plan) -> dict[str, str]:
    return {one.name: one.reason for one in result.retires}


def test_missing_servers_get_the_lowest_free_numbers() -> None:
    spec = msgspec.structs.replace(PLAIN, reserved_ordinals=("1", "4-5"))
    there = [server(0), server(2, phase="Terminating"), server(3, phase="Failed")]
    assert planned(there, 4, spec=spec).creates == (6, 7, 8)


def test_no_more_are_created_than_allowed_or_than_may_start() -> None:
    assert len(planned([], 1000, limits=Limits(creates=8)).creates) == 8
    starting = [server(n, phase="Pending") for n in range(9)]
    assert len(planned(starting, 1000, limits=Limits(pending=10)).creates) == 1


def test_occupied_and_claimed_servers_stay_whatever_is_wanted() -> None:
    there = [server(0, rooms=1), server(1, claims=1), server(2)]
    result = planned(there, 0)
    assert retired(result) == {"arena-2": "ScaledIn"}
    assert (result.target, result.limited) == (2, True)


def test_a_server_must_have_been_idle_and_the_plan_says_when_it_will() -> None:
    result = planned([server(0, since=NOW - 59), server(1, since=NOW - 60)], 0)
    assert retired(result) == {"arena-1": "ScaledIn"}
    assert result.look_again == NOW + 1


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("DeletionCost", "arena-1"),
        ("NotReady", "arena-2"),
        ("Superseded", "arena-3"),
        ("EmptiestNode", "arena-4"),
        ("Newest", "arena-5"),
    ],
)
def test_scale_in_goes_by_the_order_of_the_spec(order: str, first: str) -> None:
    update = Update(paused=True)
    spec = GameServerSetSpec(scale_in=ScaleIn(order=(order,)), update=update)  # type: ignore[arg-type]
    there = [
        server(0, rooms=1),
        server(1, deletion_cost=-5),
        server(2, phase="Starting"),
        server(3, revision="old"),
        server(4, node="n2"),
        server(5, created=9.0),
    ]
    assert planned(there, 5, spec=spec).retires[0].name == first


def test_servers_on_a_leaving_node_are_replaced_before_they_are_gone() -> None:
    there = [server(0, node_leaving=True), server(1, node_leaving=True, rooms=2), server(2)]
    result = planned(there, 3)
    assert retired(result) == {"arena-0": "NodeLeaving"}
    assert result.drains == ("arena-1",)
    assert result.creates == (3, 4)


def test_old_servers_are_replaced_within_the_surge_and_never_below_what_must_be_ready() -> None:
    there = [server(n, revision="old") for n in range(8)]
    first = planned(there, 8)
    assert (len(first.creates), retired(first)) == (2, {})
    started = [*there, server(8), server(9)]
    second = planned(started, 8)
    assert list(retired(second).values()) == ["Superseded", "Superseded"]


def test_without_surge_as_many_go_as_may_be_unavailable() -> None:
    update = Update(max_surge=0, max_unavailable=2)
    there = [server(n, revision="old", rooms=int(n == 0)) for n in range(6)]
    result = planned(there, 6, spec=GameServerSetSpec(update=update))
    assert sorted(retired(result)) == ["arena-1", "arena-2"]


def test_pause_partition_and_failures_stop_an_update() -> None:
    there = [server(n, revision="old") for n in range(4)]
    paused = GameServerSetSpec(update=Update(paused=True))
    assert planned(there, 4, spec=paused).creates == ()
    kept = GameServerSetSpec(update=Update(partition=3, max_surge=4))
    assert len(planned(there, 4, spec=kept).creates) == 1
    failing = planned(there, 4, failed_updates=1)
    assert (failing.creates, failing.stalled) == ((), True)
    assert not planned([server(0)], 1, failed_updates=5).stalled


@pytest.mark.parametrize(
    ("value", "whole", "up", "expected"),
    [(3, 10, True, 3), ("3", 10, True, 3), ("25%", 10, True, 3), ("25%", 10, False, 2)],
)
def test_parts_of_a_number(value: int | str, whole: int, up: bool, expected: int) -> None:
    assert part(value, whole, up=up) == expected


PHASES = st.sampled_from(
    ["Pending", "Starting", "Ready", "Active", "Full", "Unhealthy", "Failed", "Terminating"]
)
SERVERS = st.lists(
    st.builds(
        server,
        st.integers(0, 30),
        phase=PHASES,
        revision=st.sampled_from(["old", "new"]),
        rooms=st.sampled_from([0, 0, 1]),
        claims=st.sampled_from([0, 0, 0, 1]),
        since=st.floats(NOW - 100, NOW),
        node=st.sampled_from(["n1", "n2"]),
        node_leaving=st.sampled_from([False, False, False, True]),
        drain=st.sampled_from([False, False, False, True]),
        deletion_cost=st.integers(-1, 1),
    ),
    max_size=20,
    unique_by=lambda s: s.ordinal,
)
SPECS = st.builds(
    GameServerSetSpec,
    reserved_ordinals=st.sampled_from([(), ("0-3",), ("7",)]),
    update=st.builds(
        Update,
        partition=st.integers(0, 3),
        max_surge=st.sampled_from([1, "25%", "100%"]),
        max_unavailable=st.sampled_from([0, 1, "50%"]),
    ),
)


@settings(max_examples=200)
@given(SERVERS, SPECS, st.integers(0, 25))
def test_a_plan_is_safe_whatever_was_seen(
    servers: list[Server], spec: GameServerSetSpec, replicas: int
) -> None:
    result = planned(servers, replicas, spec=spec)
    by_name = {s.name: s for s in servers}
    names = [one.name for one in result.retires]
    assert len(set(names)) == len(names)
    assert not any(by_name[n].occupied and by_name[n].phase != "Failed" for n in names)
    assert not any(by_name[n].phase == "Terminating" for n in names)
    assert len(set(result.creates)) == len(result.creates)
    assert not set(result.creates) & {s.ordinal for s in servers}
    assert planned(servers, replicas, spec=spec) == result
    shuffled = random.Random(1).sample(servers, len(servers))
    assert planned(shuffled, replicas, spec=spec) == result


def carried_out(servers: list[Server], result: Plan) -> list[Server]:
    """The world after a plan, in which every start works and every empty server agrees to go."""
    gone = {one.name for one in result.retires}
    left = [s for s in servers if s.name not in gone and s.phase != "Terminating"]
    grown = {"Pending": "Starting", "Starting": "Ready", "Unhealthy": "Ready"}
    aged = [replace(s, phase=grown.get(s.phase, s.phase)) for s in left]  # type: ignore[arg-type]
    return [*aged, *(server(n, phase="Pending", since=NOW) for n in result.creates)]


@settings(max_examples=100)
@given(SERVERS, SPECS, st.integers(0, 25))
def test_a_quiet_set_becomes_what_is_wanted(
    servers: list[Server], spec: GameServerSetSpec, replicas: int
) -> None:
    """Rooms end, time passes: then exactly so many, all of the new revision but the partition."""
    world = [replace(s, rooms=0, claims=0) for s in servers]
    now = NOW
    for _ in range(40):
        now += 30
        world = carried_out(world, planned(world, replicas, spec=spec, now=now))
    assert len(world) == replicas
    assert sum(s.revision == "old" for s in world) <= spec.update.partition
    settled = planned(world, replicas, spec=spec, now=now)
    assert (settled.creates, settled.retires, settled.drains) == ((), (), ())
