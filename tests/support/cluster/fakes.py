"""Nodes that only say so, by the thousands: KWOK plays their kubelets on the same API server.

A fake node has a label and a taint, `rallypoint.dev/fake`: pods that mean to run on one select the
label and tolerate the taint (`FOR_FAKES`), real ones stay away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import go
from tests.support.cluster.places import flags, running
from tests.support.kubernetes import ApiServer

MARK = "rallypoint.dev/fake"
FOR_FAKES: dict[str, Any] = {
    "nodeSelector": {MARK: "true"},
    "tolerations": [{"key": MARK, "operator": "Exists"}],
}
STAGES = Path(__file__).with_name("kwok.yaml")
PODS_EACH = 200
_MANAGED = {"kwok.x-k8s.io/node": "fake"}


@contextmanager
def fake_nodes(server: ApiServer, count: int, *, pods_each: int = PODS_EACH) -> Iterator[list[str]]:
    """Have so many nodes, and run the pods that are scheduled on them; yields their names."""
    names = [f"fake-{number}" for number in range(count)]
    given = {
        "kubeconfig": server.kubeconfig,
        "config": STAGES,
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "cidr": "10.128.0.0/10",
        "node-ip": "192.0.2.1",
        "node-lease-duration-seconds": 12,
        "v": "ERROR",
    }
    command = [go.tool("kwok"), *flags(given)]
    with running(command, server.folder / "kwok.log", place=server.place):
        made = "\n---\n".join(json.dumps(_node(name, pods_each)) for name in names)
        server.does("apply", "--server-side", "-f", "-", stdin=made)
        server.does("wait", "--for=condition=Ready", "--timeout=60s", "node", "-l", MARK)
        yield names


def _node(name: str, pods: int) -> dict[str, Any]:
    room = {"cpu": "1k", "memory": "1Ti", "pods": str(pods)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": _MANAGED,
            "labels": {MARK: "true", "kubernetes.io/hostname": name},
        },
        "spec": {"taints": [{"key": MARK, "value": "true", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room},
    }
