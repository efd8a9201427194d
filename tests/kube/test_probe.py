"""The probe in a cluster: on a real API server, with the rights of its account and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rallypoint.kit import errors
from rallypoint.kube import config
from rallypoint.probe import cluster, session, wish
from rallypoint.probe.domain.cgroups import Owner
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.support import cgroups
from tests.support.go import ROOT
from tests.support.kubernetes import ApiServer

ACCESS = ROOT / "helm" / "rallypoint" / "files" / "probe-access.yaml"
WAIT_S = 30.0
END_S = 15


def until(true: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up, f"{what} did not come"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Account:
    """The probe's account, and where it may go by its token."""

    server: ApiServer
    namespace: str
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
def account(server: ApiServer, namespace: str) -> Account:
    """An account with exactly the rights that the chart gives."""
    server.does("apply", "--server-side", "-f", str(ACCESS))
    server.does("-n", namespace, "create", "serviceaccount", "probe")
    subject = f"--serviceaccount={namespace}:probe"
    server.does(
        "create", "clusterrolebinding", namespace, "--clusterrole=rallypoint-probe", subject
    )
    token = server.does("-n", namespace, "create", "token", "probe").strip()
    return Account(server, namespace, token)


def make_pod(server: ApiServer, namespace: str, name: str, node: str, **labels: str) -> str:
    """A pod on a node, as the scheduler would have put it there; its uid."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "game", "image": "none"}]},
    }
    server.does("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    return server.does("-n", namespace, "get", "pod", name, "-o", "jsonpath={.metadata.uid}")


def run_container(server: ApiServer, namespace: str, name: str, identity: str) -> None:
    """What a kubelet writes once a container runs."""
    status = {"containerStatuses": [{"name": "game", "containerID": f"containerd://{identity}",
              "image": "none", "imageID": "", "ready": True, "restartCount": 0}]}  # fmt: skip
    words = ("patch", "pod", name, "--subresource=status", "--type=merge", "-p")
    server.does("-n", namespace, *words, json.dumps({"status": status}))


@contextmanager
def watching(account: Account, node: str) -> Iterator[cluster.Cluster]:
    watched = cluster.Cluster(account.config(), node)
    watched.start()
    try:
        until(lambda: watched.state == "synced", "the first list")
        yield watched
    finally:
        watched.stop()
    assert watched.state == "stopped"


def test_pods_of_the_node_have_names_and_keep_them_when_they_go(
    server: ApiServer, account: Account, namespace: str
) -> None:
    node, first, second = f"node-{namespace}", "a" * 64, "b" * 64
    uid = make_pod(server, namespace, "here", node, **{cluster.SERVICE_LABEL: "arena"})
    elsewhere = make_pod(server, namespace, "there", f"{node}-2")
    with watching(account, node) as watched:
        names = watched.directory.of
        assert names(Owner("p", uid, first)) == (namespace, "here", "", "arena")
        for identity in (first, second):  # it starts, and is restarted
            run_container(server, namespace, "here", identity)
            owner = Owner("p", uid, identity)
            until(lambda owner=owner: names(owner).container == "game", "its name")  # type: ignore[misc]
        assert names(Owner("p", uid, first)).title == f"{namespace}/here/game"
        assert names(Owner("p", elsewhere)).title == ""
        server.does("-n", namespace, "delete", "pod", "here", "--grace-period=0", "--force")
        until(lambda: watched.directory.alive(uid) is None, "the end of the pod")
        assert names(Owner("p", uid, second)).title == f"{namespace}/here/game"
        assert len(watched.directory) == 0


def test_an_account_without_rights_leaves_ids(account: Account) -> None:
    refused = replace(account, token="nobody")
    watched = cluster.Cluster(refused.config(), "node")
    watched.start()
    time.sleep(1.0)
    assert watched.state != "synced"
    assert watched.directory.of(Owner("p", str(uuid.uuid4()))).title == ""
    watched.stop()
    assert watched.state == "stopped"


@pytest.fixture
def pods() -> Iterator[Path]:
    """A place for cgroups of pods, where BPF is allowed."""
    if os.geteuid():
        pytest.skip("not root")
    root = cgroups.unified_root()
    if root is None:
        pytest.skip("no unified cgroup hierarchy")
    try:
        session.Session(wish.Wanted()).close()
    except errors.FailedPrecondition as error:
        pytest.skip(f"this machine refuses: {error.reason}")
    with cgroups.pods_folder(root) as folder:
        yield folder


def labels_of(address: str, metric: str) -> list[dict[str, str]]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [s.labels for family in families for s in family.samples if s.name == metric]


def test_a_scrape_tells_sockets_by_the_names_of_their_pods(
    server: ApiServer, account: Account, namespace: str, pods: Path, tmp_path: Path
) -> None:
    node, identity, port = f"node-{namespace}", uuid.uuid4().hex * 2, rig.free_port()
    uid = make_pod(server, namespace, "room-0", node)
    run_container(server, namespace, "room-0", identity)
    settings = {
        "KUBERNETES": "on", "NODE_NAME": node, "PORT": "0", "PORTS": str(port),
        "CGROUP_ROOT": str(pods.parents[1]), "SCOPE": "pods",
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
        rig.talk(
            Part("serve_echo", port=port, cgroup=str(serving)), Part("ask", port=port, count=5)
        )
        until(lambda: labels_of(address, "rallypoint_probe_pods") == [{"state": "synced"}], "names")
        (told,) = labels_of(address, "rallypoint_tcp_rtt_seconds_count")
        status = Path(f"/proc/{probe.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        probe.terminate()
        assert probe.wait(END_S) == 0
    assert (told["pod_namespace"], told["pod_name"]) == (namespace, "room-0")
    assert (told["container_name"], told["pod_uid"]) == ("game", uid)
