"""What people are told of a set, and what its autoscaling counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rallypoint.fleet.domain.game_server_set import GameServerSet, GameServerSetSpec
from rallypoint.fleet.domain.loads import load
from rallypoint.fleet.domain.reviewing import review
from rallypoint.fleet.domain.set_plan import Server
from rallypoint.fleet.domain.set_status import wanted
from rallypoint.fleet.operator import webhooks
from rallypoint.kube.domain.owners import Entry, owners
from rallypoint.kube.webhook import Admission

POD = {"pod": {"spec": {"containers": [{"name": "rooms", "image": "r:1"}]}}}


def value(template: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A set as somebody applies it."""
    return {
        "apiVersion": "rallypoint.dev/v1", "kind": "GameServerSet", "metadata": {"name": "a"},
        "spec": {"template": {"spec": POD, **(template or {})}, **spec},
    }  # fmt: skip


def set_of(**spec: Any) -> GameServerSet:
    return msgspec.convert(value(**spec), GameServerSet)


def schedule(**wrong: str) -> dict[str, Any]:
    right = {"cron": "0 18 * * fri", "timeZone": "UTC", "duration": "1h", "floor": 1}
    policy = {"name": "p", "type": "Schedule", "schedule": {**right, **wrong}}
    return {"autoscaling": {"max": 3, "policies": [policy]}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"template": {"spec": {}}}, "needs a container"),
        ({"template": {"spec": {**POD, "container": "x"}}}, "'x', the pod has rooms"),
        ({"template": {"metadata": {"labels": {"rallypoint.dev/set": "b"}}}}, "the operator's"),
        (schedule(cron="61 * * * *"), "policies[p].schedule"),
        (schedule(timeZone="Mars/Olympus"), "policies[p].schedule"),
        (schedule(duration="soon"), "'soon' is not a duration"),
    ],
)
def test_what_cannot_work_is_an_error_in_words(spec: dict[str, Any], said: str) -> None:
    (error,) = review(set_of(**spec)).errors
    assert said in error


def test_what_does_nothing_is_a_warning() -> None:
    port = {"name": "play", "containerPort": 7000, "policy": "Dynamic"}
    found = review(
        set_of(
            template={"spec": {**POD, "ports": [port]}}, replicas=1, reservedOrdinals=["9-2"],
            **schedule(),
        )
    )  # fmt: skip
    assert found.errors == ()
    assert len(found.warnings) == 3


def asked(new: dict[str, Any], old: dict[str, Any] | None = None) -> Admission:
    return Admission("UPDATE", "GameServerSet", "game", "a", "person", new, old)


def test_a_bad_set_is_refused_and_scaling_one_that_is_there_is_not() -> None:
    bad = value(template={"spec": {}})
    assert not webhooks.admit(asked(bad)).allowed
    assert webhooks.admit(asked({**bad, "spec": {**bad["spec"], "replicas": 4}}, bad)).allowed
    assert not webhooks.admit(asked(value(replicas="many"))).allowed
    assert webhooks.admit(asked(value(replicas=2))).allowed


def server(name: str, **known: Any) -> Server:
    return Server(**{"name": name, "ordinal": 0, "revision": "r", "phase": "Ready", **known})


def test_rooms_that_leave_count_and_silent_servers_count_for_nothing() -> None:
    found = load(
        [
            server("a", rooms=2, claims=1),
            server("b", rooms=1, drain=True),
            server("c", rooms=3, phase="Unhealthy"),
            server("d", rooms=9, phase="Failed"),
        ],
        {"a": 10, "c": 5},
    )
    assert (found.rooms, found.claimed, found.players) == (6, 1, 15)
    assert (found.lost_servers, found.stuck_rooms, found.stuck_players) == (1, 3, 5)
    assert found.occupied_servers == 2


def test_a_number_that_was_taken_out_of_the_spec_goes_on() -> None:
    scaling: dict[str, Any] = schedule()
    assert wanted(set_of(**scaling)) == 0
    status = {"status": {"desiredReplicas": 9}}
    item = msgspec.convert({**value(**scaling), **status}, GameServerSet)
    assert wanted(item) == 3
    assert wanted(set_of(replicas=7, **scaling)) == 7
    assert wanted(GameServerSet(spec=GameServerSetSpec())) == 0


def test_owners_are_found_by_the_path_of_a_field() -> None:
    mine = Entry(manager="a", fields_v1={"f:spec": {"f:replicas": {}}})
    other = Entry(manager="b", fields_v1={"f:spec": {"f:template": {}}, "f:replicas": {}})
    assert owners([mine, other], "spec", "replicas") == [mine]
