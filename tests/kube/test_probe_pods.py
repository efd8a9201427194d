"""The probe beside real pods, which a kubelet and containerd made: whose sockets are whose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rallypoint.kube import config
from rallypoint.probe import cluster as cluster_module
from rallypoint.probe import owners, session, wish
from rallypoint.probe.domain import series
from rallypoint.probe.domain.layout import Config
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.support import cgroups
from tests.support.cluster.images import PAUSE
from tests.support.cluster.machines import Cluster
from tests.support.cluster.node import Node
from tests.support.waiting import wait_until

END = ("--grace-period=0", "--force", "--wait=true")


@contextmanager
def pod(cluster: Cluster, node: Node, name: str, **spec: object) -> Iterator[tuple[str, str]]:
    """A pod that runs: its uid and its container's id."""
    containers = [{"name": "game", "image": PAUSE, "imagePullPolicy": "Never"}]
    whole = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node.name, "containers": containers, "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0, **spec,
        },
    }  # fmt: skip
    cluster.server.does("create", "-f", "-", stdin=json.dumps(whole))
    try:
        words = ("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        cluster.server.does(*words)
        shown = json.loads(cluster.server.does("get", "pod", name, "-o", "json"))
        (status,) = shown["status"]["containerStatuses"]
        yield shown["metadata"]["uid"], status["containerID"].rpartition("//")[2]
    finally:
        cluster.server.kubectl("delete", "pod", name, *END)


def folder_of(root: Path, container: str) -> Path:
    """Where containerd put a container on the unified hierarchy."""
    (found,) = root.rglob(f"*{container}*")
    return found


def talk(serving: Path, port: int, count: int) -> None:
    rig.talk(
        Part("serve_echo", port=port, cgroup=str(serving)), Part("ask", port=port, count=count)
    )


def test_sockets_of_real_pods_are_told_by_their_names(bpf: None, cluster: Cluster) -> None:
    node, port = cluster.nodes[0], rig.free_port()
    unified = cgroups.unified_root()
    assert unified
    root = unified / node.cgroup
    tree = owners.Owners(root)
    tree.refresh(now=True)
    assert tree.pods_root
    watched = cluster_module.Cluster(config.from_files([cluster.server.kubeconfig]), node.name)
    watched.start()
    wanted = wish.Wanted(ports=(port,), config=Config(pods_root=tree.pods_root))
    try:
        with session.Session(wanted) as probe:

            def titles() -> dict[str, int]:
                found = series.of_slots(probe.slots(), tree.find)
                return {watched.directory.of(s.key.owner).title: s.counters["receives"]
                        for s in found}  # fmt: skip

            with (
                pod(cluster, node, "plain") as (uid, identity),
                pod(cluster, node, "onhost", hostNetwork=True) as (_, on_host),
            ):
                wait_until(known(watched, uid, identity), "the names")
                talk(folder_of(root, identity), port, 5)
                talk(folder_of(root, on_host), port, 7)
                tree.refresh(now=True)
                expected = {"default/plain/game": 5, "default/onhost/game": 7}
                wait_until(lambda: titles() == expected, "both names")
            with pod(cluster, node, "brief") as (_, identity):
                walks = tree.walks
                talk(folder_of(root, identity), port, 3)
                assert probe.events()
                tree.refresh(now=True)  # what an event of a new slot brings about
            wait_until(lambda: not list(root.rglob(f"*{identity}*")), "the end of its cgroup")
            assert titles() == {**expected, "default/brief/game": 3}
            assert tree.walks > walks
    finally:
        watched.stop()


def known(watched: cluster_module.Cluster, uid: str, identity: str) -> Callable[[], bool]:
    """Whether the container of a pod has a name."""

    def named() -> bool:
        found = watched.directory.alive(uid)
        return found is not None and identity in found.containers

    return named
