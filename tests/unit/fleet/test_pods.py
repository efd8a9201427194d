"""The pod of a server, and what is read from it."""

from __future__ import annotations

from typing import Any

import pytest

from rallypoint.fleet.domain import pods, revisions
from rallypoint.fleet.domain.game_server_set import (
    Capacity,
    GameServerSetSpec,
    Template,
    TemplateMeta,
    TemplatePort,
    TemplateSpec,
)
from rallypoint.fleet.domain.workload import (
    Container,
    ContainerState,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
    Revision,
    Running,
    Waiting,
    controller_uid,
)
from rallypoint.kube.objects import ObjectMeta, OwnerReference

OWNER = {"apiVersion": "rallypoint.dev/v1", "kind": "GameServer", "name": "arena-3", "uid": "u"}
NOW = pods.seconds("2026-11-26T12:01:00Z", 0)


def spec(image: str = "rooms:1", **more: Any) -> GameServerSetSpec:
    """A set's spec with a second container beside the rooms."""
    rooms = {
        "name": "rooms",
        "image": image,
        "env": [{"name": "RALLYPOINT_GRPC_HOST", "value": "::"}],
    }
    pod = {"spec": {"containers": [rooms, {"name": "log", "image": "log:1"}], **more}}
    port = TemplatePort(name="play", container_port=7000, protocol="UDP", policy="Static")
    template = Template(
        metadata=TemplateMeta(labels={"team": "red"}),
        spec=TemplateSpec(pod=pod, container="rooms", ports=(port,)),
    )
    return GameServerSetSpec(template=template, capacity=Capacity(rooms=5))


def made(**how: Any) -> dict[str, Any]:
    data = revisions.content(spec(**how))
    return pods.body(set_name="arena", server="arena-3", revision="arena-x", data=data, owner=OWNER)


def test_a_pod_knows_who_it_is_and_keeps_what_its_template_says() -> None:
    pod = made(serviceAccountName="game")
    rooms, log = pod["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in rooms["env"]}
    assert env["RALLYPOINT_NODE_ID"] == "arena-3"
    assert env["RALLYPOINT_ROOM_CAPACITY"] == "5"
    assert env["RALLYPOINT_GRPC_HOST"] == "::"
    assert len(rooms["env"]) == len(env)
    assert rooms["ports"] == [
        {"name": "play", "containerPort": 7000, "protocol": "UDP", "hostPort": 7000}
    ]
    assert log == {"name": "log", "image": "log:1"}
    assert pod["spec"]["serviceAccountName"] == "game"
    labels = pod["metadata"]["labels"]
    assert (labels["team"], labels[pods.SET], labels[pods.REVISION]) == ("red", "arena", "arena-x")
    assert labels["app.kubernetes.io/name"] == "room-state"
    assert pod["metadata"]["ownerReferences"] == [OWNER]


def test_a_template_names_its_pods_and_not_whose_they_are() -> None:
    labels = {"app.kubernetes.io/name": "game", pods.SET: "another"}
    metadata = {"metadata": {"labels": labels}}
    data = revisions.content(spec())
    template = {**data["template"]["spec"], "pod": {**data["template"]["spec"]["pod"], **metadata}}
    data["template"]["spec"] = template
    pod = pods.body(set_name="arena", server="arena-3", revision="x", data=data, owner=OWNER)
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "game"
    assert pod["metadata"]["labels"][pods.SET] == "arena"


def pod(phase: str, state: ContainerState | None = None) -> Pod:
    """A pod that was made a minute ago."""
    status = ContainerStatus(name="rooms", state=state or ContainerState())
    return Pod(
        metadata=ObjectMeta(name="arena-3", creation_timestamp="2026-11-26T12:00:00Z"),
        spec=PodSpec(containers=(Container(name="rooms", image="rooms:1"),)),
        status=PodStatus(phase=phase, container_statuses=(status,)),
    )


PULLING = ContainerState(waiting=Waiting(reason="ImagePullBackOff", message="none such"))
CREATING = ContainerState(waiting=Waiting(reason="ContainerCreating"))


@pytest.mark.parametrize(
    ("seen", "startup_s", "phase"),
    [
        (None, 30, ""),
        (pod("Pending"), 30, "Pending"),
        (pod("Pending", CREATING), 30, "Pending"),
        (pod("Pending", PULLING), 90, "Pending"),
        (pod("Pending", PULLING), 30, "Failed"),
        (pod("Running"), 30, "Running"),
        (pod("Succeeded"), 30, "Succeeded"),
    ],
)
def test_a_container_that_cannot_come_up_fails_its_pod_in_time(
    seen: Pod | None, startup_s: float, phase: str
) -> None:
    assert pods.phase(seen, now=NOW, startup_s=startup_s) == phase


def test_a_restarted_container_has_run_since_its_own_start() -> None:
    again = ContainerState(running=Running(started_at="2026-11-26T12:00:50Z"))
    assert pods.running_for_s(pod("Running", again), "", NOW) == 10
    assert pods.running_for_s(None, "rooms", NOW) == 0


def test_revisions_are_named_by_what_makes_another_server() -> None:
    names = {revisions.name("arena", revisions.content(one)) for one in (spec(), spec("rooms:2"))}
    assert len(names) == 2
    assert revisions.name("arena", revisions.content(spec())) in names
    old, new = revisions.content(spec()), revisions.content(spec("rooms:2"))
    assert revisions.only_images_differ(old, new)
    assert not revisions.only_images_differ(old, revisions.content(spec(hostNetwork=True)))


def test_failures_are_counted_once_and_a_spoiled_note_counts_none() -> None:
    counted = revisions.Failures().with_these(["a", "b"]).with_these(["b", "c"])
    assert counted.count == 3
    meta = ObjectMeta(annotations={revisions.FAILED: counted.text()})
    assert revisions.failures(Revision(metadata=meta)) == counted
    spoiled = ObjectMeta(annotations={revisions.FAILED: "no"})
    assert revisions.failures(Revision(metadata=spoiled)).count == 0


def test_only_revisions_that_nobody_needs_are_removed_but_for_the_last() -> None:
    known = [Revision(metadata=ObjectMeta(name=f"r{n}"), revision=n) for n in range(9)]
    gone = revisions.unused(known, {"r0", "r8"})
    assert [one.metadata.name for one in gone] == ["r1", "r2"]


def test_the_controller_is_the_owner_that_counts() -> None:
    other = OwnerReference(api_version="v1", kind="X", name="x", uid="1")
    real = OwnerReference(api_version="v1", kind="Y", name="y", uid="2", controller=True)
    assert controller_uid(ObjectMeta(owner_references=(other, real))) == "2"
    assert controller_uid(ObjectMeta()) == ""
