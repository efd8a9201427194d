"""The chart's objects at a real API server: schemas, CEL of our CRDs, Pod Security admission."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rallypoint.fleet import resources
from tests.kube import rights
from tests.kube.conftest import Fleets, Runs
from tests.support import chart, go, openapi
from tests.support.kubernetes import ApiServer

FOREIGN = {
    "cert-manager.io": ("github.com/cert-manager/cert-manager", "deploy/crds"),
    "gateway.networking.k8s.io": ("sigs.k8s.io/gateway-api", "config/crd/standard"),
    "keda.sh": ("github.com/kedacore/keda/v2", "config/crd/bases"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd",
    ),
}  # fmt: skip
"""Groups whose CRDs are somebody else's: the module that has them, and where in it."""
PUBLISHED_S = 60.0


@pytest.fixture(scope="module")
def server_with_kinds(server: ApiServer) -> ApiServer:
    server.does("apply", "--server-side", "-f", "-", stdin="---\n".join(resources.files().values()))
    names = [f"crd/{resource.name}" for resource in resources.ALL]
    server.does("wait", "--for=condition=Established", "--timeout=30s", *names)
    return server


@pytest.mark.parametrize("case", chart.CASES)
def test_api_server_takes_every_object(
    server_with_kinds: ApiServer, namespace: str, case: str
) -> None:
    known = [one for one in chart.rendered(case) if group(one) not in FOREIGN]
    text = here(known, namespace)
    done = server_with_kinds.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a warning tells of something deprecated or unsafe
    assert len(done.stdout.splitlines()) == len(known)


def here(objects: list[dict[str, Any]], namespace: str) -> str:
    return rights.listed([rights.moved(one, namespace) for one in objects])


def group(one: dict[str, Any]) -> str:
    return str(one["apiVersion"]).partition("/")[0]


def crds(objects: list[dict[str, Any]]) -> dict[str, Path]:
    """The CRDs of these objects, by name, in their makers' own files."""
    found = {}
    for kind in {(group(one), one["kind"].lower() + "s") for one in objects}:
        module, folder = FOREIGN[kind[0]]
        place = go.module_folder("crds", module) / folder
        found[f"{kind[1]}.{kind[0]}"] = place / f"{kind[0]}_{kind[1]}.yaml"
    return found


@pytest.fixture(scope="module")
def foreign(server: ApiServer) -> Iterator[list[dict[str, Any]]]:
    """What the chart makes of kinds of others, whose CRDs the server knows until the end.

    Nobody waits for that: a server that is short of time takes minutes to let go of a kind.
    """
    objects = [one for one in everything() if group(one) in FOREIGN]
    files = crds(objects)
    words = [word for path in files.values() for word in ("-f", str(path))]
    names = [f"crd/{name}" for name in files]
    try:
        server.does("apply", "--server-side", *words)
        server.does("wait", "--for=condition=Established", "--timeout=60s", *names)
        yield objects
    finally:
        server.does("delete", "--wait=false", "--ignore-not-found", *names)


def test_kinds_of_others_are_taken_by_their_own_crds(
    server: ApiServer, namespace: str, foreign: list[dict[str, Any]]
) -> None:
    assert {group(one) for one in foreign} == set(FOREIGN)
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    done = server.kubectl(*words, stdin=here(foreign, namespace))
    assert (done.returncode, done.stderr) == (0, "")
    wrong = [{**one, "spec": {**one["spec"], "wrong": 1}} for one in foreign]
    refused = server.kubectl(*words, stdin=here(wrong, namespace))
    for kind in {one["kind"] for one in foreign}:
        assert f'({kind}.spec): unknown field "wrong"' in refused.stderr, refused.stderr


@pytest.fixture
def schemas(server_with_kinds: ApiServer, foreign: list[dict[str, Any]], tmp_path: Path) -> Path:
    """A folder with the schemas of all kinds that the API server knows."""
    wanted = {(one["apiVersion"], one["kind"]) for one in everything()}
    give_up = time.monotonic() + PUBLISHED_S
    while True:  # those of CRDs are told a moment after they can be used
        document = json.loads(server_with_kinds.does("get", "--raw", "/openapi/v2"))
        if not (missing := wanted - openapi.kinds(document).keys()):
            break
        assert time.monotonic() < give_up, missing
        time.sleep(0.5)
    openapi.write(document, tmp_path)
    return tmp_path


def everything() -> list[dict[str, Any]]:
    """The objects of all cases."""
    return [one for case in chart.CASES for one in chart.rendered(case)]


def kubeconform(schemas: Path, text: str) -> dict[str, int]:
    """How many objects are valid, and how many not, by the schemas of the API server."""
    where = str(schemas / openapi.TEMPLATE)
    done = subprocess.run(
        [str(go.tool("kubeconform")), "-strict", "-summary", "-output", "json",
         "-schema-location", where, "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    print(told["resources"])
    found: dict[str, int] = told["summary"]
    return found


def test_kubeconform_finds_fault_with_no_case_and_with_what_is_wrong(schemas: Path) -> None:
    for case in chart.CASES:
        found = kubeconform(schemas, chart.text(case))
        expected = {"valid": len(chart.rendered(case)), "invalid": 0, "errors": 0, "skipped": 0}
        assert found == expected, case
    wrong = [{**one, "wrong": 1} for one in everything()]
    wrong += [{**one, "spec": {**one["spec"], "wrong": 1}} for one in everything() if "spec" in one]
    found = kubeconform(schemas, yaml.safe_dump_all(wrong))
    assert found == {"valid": 0, "invalid": len(wrong), "errors": 0, "skipped": 0}


def test_an_upgrade_leaves_the_servers_as_keda_has_them(
    server_with_kinds: ApiServer, namespace: str
) -> None:
    def rendered() -> dict[str, Any]:
        done = chart.helm(
            "template", "demo", str(chart.CHART), "--namespace", namespace, "--dry-run=server",
            "--kubeconfig", str(server_with_kinds.kubeconfig), "-s", "templates/rooms.yaml",
            "--api-versions", "rallypoint.dev/v1/GameServerSet",
            "--set", "operator.enabled=true,rooms.keda.enabled=true,rooms.replicas=3",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made: dict[str, Any] = next(yaml.safe_load_all(done.stdout))
        return made

    made = rendered()
    assert made["spec"]["replicas"] == 3
    server_with_kinds.does("apply", "--server-side", "-f", "-", stdin=here([made], namespace))
    for number in (7, 0):
        words = ("scale", "gameserverset/rooms", f"--replicas={number}")
        server_with_kinds.does("-n", namespace, *words)
        assert rendered()["spec"]["replicas"] == number


@pytest.mark.parametrize("case", chart.CASES)
def test_pods_are_admitted_under_the_restricted_standard(
    server_with_kinds: ApiServer, namespace: str, case: str
) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    server_with_kinds.does("label", "namespace", namespace, level)
    for name, made in chart.pods(case):
        spec = {key: value for key, value in made["spec"].items() if key != "serviceAccountName"}
        mounts = spec["containers"][0]["volumeMounts"]
        if any(mount["name"] == "data" for mount in mounts):  # a claim's, which a set adds
            spec["volumes"] = [*spec["volumes"], {"name": "data", "emptyDir": {}}]
        meta = {**made["metadata"], "name": name, "namespace": namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
        done = server_with_kinds.kubectl(
            "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod)
        )
        if spec["containers"][0]["name"] == "probe":
            assert "violates PodSecurity" in done.stderr  # so the NOTES say what it needs
            assert '"restricted:latest"' in done.stderr
        else:
            assert done.returncode == 0, done.stderr


def test_operator_does_its_work_with_the_rights_of_the_chart(
    runs: Runs, fleets: Fleets, controlled: ApiServer
) -> None:
    """As all tests of the operator do; here it is looked for what it was refused."""

    async def scenario() -> None:
        async with fleets() as fleet:
            assert "token" in fleet.kubeconfig.read_text()
            process = fleet.operator()
            await fleet.apply(replicas=3, scaleIn={"minIdleSeconds": 0})
            await fleet.ready(3)
            await fleet.scale(1)
            await fleet.ready(1)
            await fleet.until(lambda: fleet.status("ready_replicas") == 1, "the status")
            assert {"Scaled", "Ready"} <= {one.reason for one in await fleet.events()}
            assert "forbidden" not in process.log.read_text().lower()

    runs(scenario())


def test_fleet_may_tell_of_claims_and_nothing_else(
    server_with_kinds: ApiServer, namespace: str
) -> None:
    server_with_kinds.does("apply", "-f", "-", stdin=rights.of("fleet", namespace))
    user = f"--as=system:serviceaccount:{namespace}:{rights.account('fleet')}"

    def may(*words: str) -> bool:
        done = server_with_kinds.kubectl("auth", "can-i", user, "-n", namespace, *words)
        return done.stdout.strip() == "yes"

    servers = "gameservers.rallypoint.dev"
    assert may("list", servers)
    assert may("patch", servers, "--subresource=status")
    assert not may("patch", servers)
    assert not may("list", "pods")
