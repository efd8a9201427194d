"""Doctor tells what is missing, and what of a CRD differs."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rallypoint.cli import doctor, doctor_cluster
from rallypoint.cli.doctor_check import State, too_far
from rallypoint.cli.doctor_cluster import Node
from rallypoint.fleet import resources


@pytest.fixture
def spec() -> dict[str, Any]:
    text = resources.GAME_SERVER_SET.as_yaml(source=resources.SOURCE)
    return dict(yaml.safe_load(text)["spec"])


def schema(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def drop_a_field(spec: dict[str, Any]) -> None:
    properties = schema(spec)["properties"]
    del properties[next(iter(properties))]


def add_a_field(spec: dict[str, Any]) -> None:
    schema(spec)["properties"]["unheardOf"] = {"type": "string"}


def drop_a_version(spec: dict[str, Any]) -> None:
    spec["versions"].pop()


@pytest.mark.parametrize("change", [drop_a_field, add_a_field, drop_a_version])
def test_what_differs_is_named(
    spec: dict[str, Any], change: Callable[[dict[str, Any]], None]
) -> None:
    theirs = copy.deepcopy(spec)
    change(theirs)
    (where,) = doctor_cluster.differences(spec, theirs)
    assert where.startswith("spec.versions")


def test_what_the_server_adds_makes_no_difference(spec: dict[str, Any]) -> None:
    theirs = {**copy.deepcopy(spec), "conversion": {"strategy": "None"}}
    theirs["names"]["listKind"] = "GameServerSetList"
    assert list(doctor_cluster.differences(spec, theirs)) == []


def established(spec: dict[str, Any]) -> dict[str, Any]:
    return {"spec": spec, "status": {"conditions": [{"type": "Established", "status": "True"}]}}


def test_crd_that_helm_brings_is_well(spec: dict[str, Any]) -> None:
    fresh = doctor_cluster.judge_crd(resources.GAME_SERVER_SET, None, fresh=True)
    assert (fresh.state, "helm install" in fresh.seen) == (State.OK, True)
    there = doctor_cluster.judge_crd(resources.GAME_SERVER_SET, established(spec), fresh=False)
    assert there.state is State.OK


def test_crd_that_helm_will_not_bring_is_bad(spec: dict[str, Any]) -> None:
    away = doctor_cluster.judge_crd(resources.GAME_SERVER_SET, None, fresh=False)
    drop_a_field(spec)
    older = doctor_cluster.judge_crd(resources.GAME_SERVER_SET, established(spec), fresh=False)
    for check in (away, older):
        assert (check.state, "kubectl apply" in check.fix) == (State.BAD, True)
    assert older.seen.startswith("differs at spec.versions")


def storage_class(name: str, default: str = "false") -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {doctor_cluster.DEFAULT_CLASS: default}}}


@pytest.mark.parametrize(
    ("classes", "state", "told"),
    [
        ([], State.WARN, "no storage class"),
        ([storage_class("slow"), {"metadata": {"name": "bare"}}], State.WARN, "slow, bare"),
        ([storage_class("slow"), storage_class("fast", "true")], State.OK, "fast"),
    ],
    ids=["none", "no default", "default"],
)
def test_volumes_need_a_storage_class(
    classes: list[dict[str, Any]], state: State, told: str
) -> None:
    check = doctor_cluster.judge_classes(classes)
    assert check.state is state
    assert told in f"{check.seen} {check.fix}"


@pytest.mark.parametrize(
    ("node", "far"), [("v1.36.9", False), ("v1.33.0", False), ("v1.32.1", True), ("v1.37.0", True)]
)
def test_kubelets_may_be_a_little_older(node: str, far: bool) -> None:
    assert too_far("v1.36.3", node) is far


def node(name: str, **changes: Any) -> Node:
    known = {"ready": True, "kernel": "6.12.1", "kubelet": "v1.36.0", "system": "linux"}
    return Node(name=name, **{**known, **changes})


@pytest.mark.parametrize(
    ("nodes", "states"),
    [
        ([], ["bad"]),
        ([node("a")], ["ok", "ok", "ok"]),
        ([node("a"), node("b", ready=False)], ["warn", "ok", "ok"]),
        ([node("a", ready=False)], ["bad", "ok", "ok"]),
        ([node("a", kernel="5.4.0-90")], ["ok", "warn", "ok"]),
        ([node("a", kubelet="v1.30.0")], ["ok", "ok", "warn"]),
    ],
    ids=["none", "well", "one away", "all away", "old kernel", "old kubelet"],
)
def test_nodes_are_judged(nodes: list[Node], states: list[str]) -> None:
    assert [c.state.value for c in doctor_cluster.judge_nodes(nodes, "v1.36.3")] == states


def test_taken_port_is_bad_and_exits_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["--json", "--data-dir", str(tmp_path), "--port", str(port)]
        assert doctor.run(words) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    bad = [check for check in told["checks"] if check["state"] == State.BAD.value]
    assert [check["name"] for check in bad] == ["port"]
    assert str(port) in bad[0]["fix"]


def test_each_warning_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run(["--json", "--data-dir", str(tmp_path / "new")])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {"python", "brokers", "disk", "clock", "open files"} <= {c["name"] for c in checks}
    assert all(check["fix"] for check in checks if check["state"] != State.OK.value)
    assert not (tmp_path / "new").exists()
