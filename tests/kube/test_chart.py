"""The chart's objects at a real API server: schemas, CEL of our CRDs, Pod Security admission."""

from __future__ import annotations

import json

import pytest

from rallypoint.fleet import resources
from tests.kube import rights
from tests.kube.conftest import Fleets, Runs
from tests.support import chart
from tests.support.kubernetes import ApiServer

FOREIGN = {
    "cert-manager.io",
    "gateway.networking.k8s.io",
    "keda.sh",
    "monitoring.coreos.com",
}
"""Groups whose CRDs are somebody else's: this server does not know them."""


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
    known = [one for one in chart.rendered(case)
             if one["apiVersion"].partition("/")[0] not in FOREIGN]  # fmt: skip
    text = rights.listed([rights.moved(one, namespace) for one in known])
    done = server_with_kinds.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a warning tells of something deprecated or unsafe
    assert len(done.stdout.splitlines()) == len(known)


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
