"""`rallypoint doctor` at a real API server: CRDs, storage, and users who may not install."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rallypoint.cli import doctor_cluster, doctor_rights
from rallypoint.cli.doctor_check import State
from rallypoint.fleet import resources
from rallypoint.kube.crd import CustomResource
from tests.kube.conftest import Runs
from tests.kube.stack import connected
from tests.support.kubernetes import ApiServer, temporary_api_server

ELSEWHERE = frozenset(
    ("cert-manager.io", "gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com")
)
"""Groups of kinds that others install."""
SET = resources.GAME_SERVER_SET.name


def ask(kubeconfig: Path, *more: str) -> dict[str, Any]:
    words = ["doctor", "--json", "--kubeconfig", str(kubeconfig), *more]
    done = subprocess.run(
        [sys.executable, "-m", "rallypoint", *words], capture_output=True, text=True, check=False
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 1)
    return {check["name"]: check for check in told["checks"]}


NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "one"},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"operatingSystem": "linux"},
    },
}
DEFAULT = "storageclass.kubernetes.io/is-default-class"
CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "disks", "annotations": {DEFAULT: "true"}},
    "provisioner": "example.com/disks",
}


@contextmanager
def fresh_server() -> Iterator[ApiServer]:
    """One with a node, to which nobody has installed anything."""
    with temporary_api_server() as made:
        made.does("create", "-f", "-", stdin=json.dumps(NODE))
        yield made


@pytest.mark.skipif(sys.platform != "linux", reason="kube-apiserver ends by Linux's parent-death")
def test_nothing_is_bad_about_a_fresh_cluster() -> None:
    with fresh_server() as fresh:
        first = ask(fresh.kubeconfig)
        assert [one for one in first.values() if one["state"] == "bad"] == []
        for resource in resources.ALL:
            assert first[f"CRD {resource.name}"]["state"] == "ok"
            assert "`helm install` brings it" in first[f"CRD {resource.name}"]["seen"]
        assert first["storage"]["state"] == "warn"
        assert "provisioner" in first["storage"]["fix"]
        fresh.does("create", "-f", "-", stdin=json.dumps(CLASS))
        assert ask(fresh.kubeconfig)["storage"]["seen"] == "disks is the default class"


def apply_crds(server: ApiServer) -> None:
    text = "---\n".join(resources.files().values())
    server.does("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    server.does("wait", "--for=condition=Established", "--timeout=30s", f"crd/{SET}")


def test_crds_are_found_and_compared(server: ApiServer) -> None:
    apply_crds(server)
    there = ask(server.kubeconfig)
    assert there["API server"]["state"] == "ok"
    assert there[f"CRD {SET}"]["state"] == "ok", there
    rights = {form.name: "ok" for form in doctor_rights.FORMS}
    assert {name: there[name]["state"] for name in rights} == rights
    assert "nodes" in there
    patch = [{"op": "replace", "path": "/spec/names/shortNames", "value": ["other"]}]
    server.does("patch", "crd", SET, "--type=json", "-p", json.dumps(patch))
    try:
        changed = ask(server.kubeconfig)[f"CRD {SET}"]
    finally:
        apply_crds(server)
    assert (changed["state"], "shortNames" in changed["seen"]) == ("bad", True)
    assert "kubectl apply" in changed["fix"]


def renamed(plural: str) -> CustomResource:
    """A kind that no server has."""
    kind = dataclasses.replace(resources.GAME_SERVER.kind, plural=plural)
    (first, *_) = resources.GAME_SERVER.versions
    versions = (dataclasses.replace(first, kind=kind),)
    return dataclasses.replace(resources.GAME_SERVER, versions=versions)


@pytest.mark.parametrize(
    ("others", "state", "told"),
    [((), State.OK, "helm install"), ((resources.GAME_SERVER,), State.BAD, "others of ours")],
    ids=["fresh cluster", "one of two"],
)
def test_missing_crd_is_bad_once_helm_has_made_others(
    server: ApiServer, runs: Runs, others: tuple[CustomResource, ...], state: State, told: str
) -> None:
    apply_crds(server)

    async def scenario() -> None:
        async with connected(server) as transport:
            wanted = (renamed("nothings"), *others)
            (check, *_) = await doctor_cluster.look_at_crds(transport, wanted)
        assert (check.state, told in check.seen) == (state, True)

    runs(scenario())


def account(server: ApiServer, namespace: str, folder: Path) -> Path:
    """A kubeconfig for somebody who may nothing yet."""
    server.does("create", "serviceaccount", "somebody", "-n", namespace)
    token = server.does("create", "token", "somebody", "-n", namespace).strip()
    config = json.loads(server.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_who_may_nothing_is_told_what_is_refused(
    server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    told = ask(account(server, namespace, tmp_path), "--namespace", namespace)
    for form in doctor_rights.FORMS:
        assert told[form.name]["state"] == "warn"
        for kind in form.makes:
            assert f"create {kind.plural}" in told[form.name]["seen"]
    assert "account that may read CRDs" in told[f"CRD {SET}"]["fix"]
    assert told["nodes"]["state"] == "warn"


def test_who_owns_a_namespace_lacks_what_is_of_the_cluster(
    server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    somebody = account(server, namespace, tmp_path)
    bound = ["--clusterrole=cluster-admin", f"--serviceaccount={namespace}:somebody"]
    server.does("create", "rolebinding", "owner", "-n", namespace, *bound)
    told = ask(somebody, "--namespace", namespace)
    assert told["rights"]["seen"] == "may not create customresourcedefinitions"
    assert "--skip-crds" in told["rights"]["fix"]
    refused = told["rights: operator"]["seen"]
    assert "create clusterroles, create clusterrolebindings" in refused
    assert "list nodes" in refused
    assert "create roles" not in refused
    assert told["rights: choices"]["state"] == "ok"


def test_kinds_that_are_asked_for_are_those_of_the_server(server: ApiServer) -> None:
    apply_crds(server)
    kinds = [kind for form in doctor_rights.FORMS for kind in form.makes]
    ours = [kind for kind in kinds if kind.group not in ELSEWHERE]
    for wide in (False, True):
        words = ("api-resources", "-o", "name", f"--namespaced={str(not wide).lower()}")
        known = set(server.does(*words).split())
        asked = {f"{k.plural}.{k.group}".strip(".") for k in ours if k.cluster_wide is wide}
        assert asked <= known


def test_pods_of_the_probe_need_a_namespace_that_lets_them(
    server: ApiServer, namespace: str
) -> None:
    def told() -> dict[str, str]:
        return dict(ask(server.kubeconfig, "--namespace", namespace)["namespace"])

    assert told()["state"] == "ok"
    label = "pod-security.kubernetes.io/enforce=restricted"
    server.does("label", "namespace", namespace, label)
    assert (told()["state"], "restricted" in told()["seen"]) == ("warn", True)


def test_new_namespace_is_made_by_those_who_may(
    server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    somebody = account(server, namespace, tmp_path)
    reader = f"{namespace}-reader"
    server.does("create", "clusterrole", reader, "--verb=get", "--resource=namespaces")
    bound = [f"--clusterrole={reader}", f"--serviceaccount={namespace}:somebody"]
    server.does("create", "clusterrolebinding", reader, *bound)
    where = ("--namespace", f"{namespace}-new")
    try:
        refused = ask(somebody, *where)["namespace"]
    finally:
        server.does("delete", f"clusterrole/{reader}", f"clusterrolebinding/{reader}")
    assert (refused["state"], "may not create namespaces" in refused["seen"]) == ("warn", True)
    makes = ask(server.kubeconfig, *where)["namespace"]
    assert (makes["state"], "--create-namespace" in makes["seen"]) == ("ok", True)


def test_server_that_does_not_answer_is_bad(tmp_path: Any) -> None:
    config = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "rallypoint", "doctor", "--kubeconfig", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout
