"""The probe in a cluster: on a real API server, with the rights of its account and no more."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import NETWORK_HEALTHY
from rallypoint.kube import config
from rallypoint.kube import errors as kube_errors
from rallypoint.kube.api import Api
from rallypoint.kube.kinds import SECRETS
from rallypoint.kube.transport import Transport
from rallypoint.probe import cluster
from rallypoint.probe.conditions import GAME_SERVERS, MANAGER
from rallypoint.probe.domain import health
from rallypoint.probe.domain.cgroups import Owner
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.kube.conftest import Runs
from tests.support import cgroups, prometheus
from tests.support.dashboards import Unanswered, shown_by
from tests.support.go import ROOT
from tests.support.kubernetes import ApiServer
from tests.support.waiting import wait_until

ACCESS = ROOT / "helm" / "rallypoint" / "files" / "probe-access.yaml"
END_S = 15
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """The probe's account, and where it may go by its token."""

    server: ApiServer
    namespace: str
    node: str
    token: str

    def config(self) -> config.ClusterConfig:
        admin = config.from_files([self.server.kubeconfig])
        return replace(admin, client_certificate=None, client_key=None, token=self.token)

    def kubeconfig(self, path: Path) -> Path:
        """The same for a process."""
        whole = json.loads(self.server.kubeconfig.read_text())
        whole["users"][0]["user"] = {"token": self.token}
        path.write_text(json.dumps(whole))
        return path


@pytest.fixture
def account(server: ApiServer, namespace: str) -> Iterator[Account]:
    try:
        yield make_account(server, namespace)
    finally:
        server.does("delete", "node", f"node-{namespace}", "--ignore-not-found")
        server.does("delete", "clusterrolebinding", namespace, "--ignore-not-found")


def make_account(server: ApiServer, namespace: str) -> Account:
    """An account with exactly the rights that the chart gives, in a pod on a node."""
    node, name = f"node-{namespace}", "rallypoint-probe"
    server.does("apply", "--server-side", "-f", str(ACCESS))
    server.does("create", "-f", "-", stdin=json.dumps(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    ))  # fmt: skip
    server.does("-n", namespace, "create", "serviceaccount", name)
    subject = f"--serviceaccount={namespace}:{name}"
    server.does("create", "clusterrolebinding", namespace, f"--clusterrole={name}", subject)
    uid = make_pod(server, namespace, name, node, account=name)
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}", f"--bound-object-uid={uid}")
    token = server.does("-n", namespace, "create", "token", name, *bound).strip()
    return Account(server, namespace, node, token)


def make_pod(
    server: ApiServer, namespace: str, name: str, node: str, *,
    account: str = "default", owner: Mapping[str, object] | None = None, **labels: str,
) -> str:  # fmt: skip
    """A pod on a node, as the scheduler would have put it there; its uid."""
    containers = [{"name": "game", "image": "none"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "labels": labels, "ownerReferences": [owner] if owner else [],
        },
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": containers},
    }  # fmt: skip
    server.does("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    return server.does("-n", namespace, "get", "pod", name, "-o", "jsonpath={.metadata.uid}")


def run_container(server: ApiServer, namespace: str, name: str, identity: str) -> None:
    """What a kubelet writes once a container runs."""
    status = {"containerStatuses": [{"name": "game", "containerID": f"containerd://{identity}",
              "image": "none", "imageID": "", "ready": True, "restartCount": 0}]}  # fmt: skip
    words = ("patch", "pod", name, "--subresource=status", "--type=merge", "-p")
    server.does("-n", namespace, *words, json.dumps({"status": status}))


@contextmanager
def watching(account: Account) -> Iterator[cluster.Cluster]:
    watched = cluster.Cluster(account.config(), account.node)
    watched.start()
    try:
        wait_until(lambda: watched.state == "synced", "the first list")
        yield watched
    finally:
        watched.stop()
    assert watched.state == "stopped"


def test_pods_of_the_node_have_names_and_keep_them_when_they_go(
    server: ApiServer, account: Account, namespace: str
) -> None:
    node, first, second = account.node, "a" * 64, "b" * 64
    uid = make_pod(server, namespace, "here", node, **{cluster.SERVICE_LABEL: "arena"})
    elsewhere = make_pod(server, namespace, "there", f"{node}-2")
    with watching(account) as watched:
        names = watched.directory.of
        assert names(Owner("p", uid, first)) == (namespace, "here", "", "arena")
        for identity in (first, second):  # it starts, and is restarted
            run_container(server, namespace, "here", identity)
            owner = Owner("p", uid, identity)
            wait_until(lambda owner=owner: names(owner).container == "game", "its name")  # type: ignore[misc]
        assert names(Owner("p", uid, first)).title == f"{namespace}/here/game"
        assert names(Owner("p", elsewhere)).title == ""
        server.does("-n", namespace, "delete", "pod", "here", "--grace-period=0", "--force")
        wait_until(lambda: watched.directory.alive(uid) is None, "the end of the pod")
        assert names(Owner("p", uid, second)).title == f"{namespace}/here/game"
        assert len(watched.directory) == 1  # the probe's own


def test_an_account_without_rights_leaves_ids(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    refused = replace(account, token="nobody")
    watched = cluster.Cluster(refused.config(), "node")
    watched.start()
    wait_until(lambda: watched.state == "failed", "the refusal")
    assert "pods have no names" in caplog.text
    assert watched.directory.of(Owner("p", str(uuid.uuid4()))).title == ""
    watched.stop()
    assert watched.state == "stopped"


@pytest.fixture
def game_server(server: ApiServer, account: Account, namespace: str) -> str:
    """The uid of the GameServer arena-0, which runs on the probe's node with a pod of its own."""
    server.does("apply", "--server-side", "-f", "-", stdin="---\n".join(resources.files().values()))
    server.does("wait", "--for=condition=Established", "crd/gameservers.rallypoint.dev")
    item = {
        "apiVersion": "rallypoint.dev/v1", "kind": "GameServer", "metadata": {"name": "arena-0"},
        "spec": {"setName": "arena", "ordinal": 0},
    }  # fmt: skip
    server.does("-n", namespace, "create", "-f", "-", stdin=json.dumps(item))
    # As the operator writes it: server-side apply under a name of its own.
    status = {
        "phase": "Ready", "nodeName": account.node,
        "conditions": [{"type": "PodReady", "status": "True", "reason": "Running"}],
    }  # fmt: skip
    words = ("apply", "--server-side", "--subresource=status", "--field-manager=fleet", "-f", "-")
    server.does("-n", namespace, *words, stdin=json.dumps({**item, "status": status}))
    return server.does("-n", namespace, "get", "rgs", "arena-0", "-o", "jsonpath={.metadata.uid}")


def conditions(server: ApiServer, namespace: str) -> dict[str, dict[str, str]]:
    shown = server.does("-n", namespace, "get", "rgs", "arena-0", "-o", "json")
    return {one["type"]: one for one in json.loads(shown)["status"]["conditions"]}


def owned_by(uid: str) -> dict[str, object]:
    named = {"name": "arena-0", "uid": uid, "controller": True}
    return {"apiVersion": "rallypoint.dev/v1", "kind": "GameServer", **named}


ILL = health.Opinion(False, health.RETRANSMITS, "7.0% of what was sent was sent again")
WELL = health.Opinion(True, health.WITHIN, "all is well")


def test_a_server_says_how_its_network_is_beside_what_its_operator_says(
    server: ApiServer, account: Account, namespace: str, game_server: str
) -> None:
    assert health.CONDITION == NETWORK_HEALTHY
    pod = make_pod(server, namespace, "arena-0", account.node, owner=owned_by(game_server))
    with watching(account) as watched:
        assert not watched.tell(str(uuid.uuid4()), ILL)

        def said(status: str, reason: str) -> bool:
            found = conditions(server, namespace).get(NETWORK_HEALTHY, {})
            return (found.get("status"), found.get("reason")) == (status, reason)

        assert watched.tell(pod, ILL)
        wait_until(lambda: said("False", health.RETRANSMITS), "the condition")
        assert watched.tell(pod, WELL)
        wait_until(lambda: said("True", health.WITHIN), "its change")
        assert conditions(server, namespace)["PodReady"]["status"] == "True"
    assert said("Unknown", health.STOPPED)


LIE = {"conditions": [{"type": "PodReady", "status": "False"}]}
TRUE, FALSE = (
    {"conditions": [{"type": NETWORK_HEALTHY, "status": status}]} for status in ("True", "False")
)


def test_the_probes_account_can_write_nothing_else(
    runs: Runs, server: ApiServer, account: Account, namespace: str, game_server: str
) -> None:
    async def scenario() -> None:
        async with Transport(account.config()) as transport:
            servers = Api(transport, GAME_SERVERS, manager=MANAGER)

            async def refused(subresource: str = "status", **patch: object) -> str:
                with pytest.raises(kube_errors.KubeError) as caught:
                    await servers.merge_patch(
                        "arena-0", patch, namespace=namespace, subresource=subresource
                    )
                return str(caught.value)

            alone = "the condition NetworkHealthy alone"
            give_up = time.monotonic() + WAIT_S  # a policy counts a moment after it is there
            while alone not in (said := await refused(status={"phase": "Terminating"})):
                assert time.monotonic() < give_up, said
                await asyncio.sleep(0.1)
            assert alone in await refused(status={"podName": "mine"})
            assert alone in await refused(status={"nodeName": None})
            assert alone in await refused(status=LIE)
            assert "cannot patch" in await refused("", spec={"drain": True})
            with pytest.raises(kube_errors.Forbidden):
                await Api(transport, SECRETS, manager=MANAGER).list()
            mine = {"namespace": namespace, "subresource": "status"}
            await servers.apply("arena-0", {"status": TRUE}, **mine)
            words = ("patch", "rgs", "arena-0", "--subresource=status", "--type=merge", "-p")
            server.does("-n", namespace, *words, '{"status":{"nodeName":"another"}}')
            with pytest.raises(kube_errors.KubeError, match="its own node"):
                await servers.apply("arena-0", {"status": FALSE}, **mine)

    runs(scenario())


@pytest.fixture
def pods(bpf: None) -> Iterator[Path]:
    """A place for cgroups of pods."""
    root = cgroups.unified_root()
    assert root
    with cgroups.pods_folder(root) as folder:
        yield folder


def labels_of(address: str, metric: str) -> list[dict[str, str]]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [s.labels for family in families for s in family.samples if s.name == metric]


def test_a_slow_path_is_told_by_the_name_of_the_pod_and_of_its_server(
    server: ApiServer, account: Account, game_server: str, pods: Path, tmp_path: Path
) -> None:
    namespace, node = account.namespace, account.node
    identity, port = uuid.uuid4().hex * 2, rig.free_port()
    uid = make_pod(server, namespace, "arena-0", node, owner=owned_by(game_server))
    run_container(server, namespace, "arena-0", identity)
    settings = {
        "KUBERNETES": "on", "NODE_NAME": node, "PORT": "0", "PORTS": str(port),
        "CGROUP_ROOT": str(pods.parents[1]), "SCOPE": "pods",
        "CONDITIONS": "1", "HEALTH_WINDOW_S": "1", "UNHEALTHY_RTT_MS": "5",
    }  # fmt: skip
    environ = {f"RALLYPOINT_PROBE_{name}": value for name, value in settings.items()}
    environ["KUBECONFIG"] = str(account.kubeconfig(tmp_path / "kubeconfig"))
    with ExitStack() as stack:
        serving = stack.enter_context(cgroups.container(pods, uid, identity))
        probe = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "rallypoint", "probe"],
                env={**os.environ, **environ},
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )
        stack.callback(probe.terminate)
        assert probe.stdout
        assert probe.stdout.readline() == "mode full\n"
        address = probe.stdout.readline().split()[1]
        cable = stack.enter_context(rig.cable(10, 10))
        often = {"port": port, "hz": 100, "seconds": 6}
        cable.talk(Part("serve_ticks", cgroup=str(serving), **often), Part("tick", **often))
        assert conditions(server, namespace)[NETWORK_HEALTHY]["reason"] == health.PATH
        wait_until(
            lambda: labels_of(address, "rallypoint_probe_pods") == [{"state": "synced"}], "names"
        )
        (told,) = labels_of(address, "rallypoint_tcp_rtt_seconds_count")
        if shutil.which("prometheus"):
            at = {"probe": [address.split("/")[2]]}
            served = stack.enter_context(prometheus.running(tmp_path, at))
            unanswered = Unanswered(shown_by("tests/kube/test_probe.py"))
            wait_until(lambda: unanswered.ask(served), "figures on the dashboard")
        status = Path(f"/proc/{probe.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        probe.terminate()
        assert probe.wait(END_S) == 0
    assert (told["pod_namespace"], told["pod_name"]) == (namespace, "arena-0")
    assert (told["container_name"], told["pod_uid"]) == ("game", uid)
