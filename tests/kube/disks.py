"""Disks for the brokers of a release: folders of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.kube import rights
from tests.support import chart
from tests.support.cluster.machines import Cluster

BROKERS: Final = tuple(
    f"{chart.RELEASE}-rallypoint-{name}" for name in ("nats-0", "nats-1", "nats-2", "redis-0")
)
"""Pods that have a disk; a small release has one of NATS."""


@contextmanager
def disks(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A disk for each broker, which follows its pod to any node as a cloud's would."""
    names = [node.name for node in cluster.nodes]
    # After a test that failed, pods may be writing yet.
    kept = tempfile.TemporaryDirectory(prefix="rallypoint-disks-", ignore_cleanup_errors=True)
    with kept as folder:
        made = [_disk(namespace, pod, Path(folder) / pod, names) for pod in BROKERS]
        cluster.server.does("create", "-f", "-", stdin=rights.listed(made))
        try:
            yield
        finally:
            words = [f"pv/{one['metadata']['name']}" for one in made]
            cluster.server.does("delete", "--wait=false", *words)


def _disk(namespace: str, pod: str, folder: Path, nodes: list[str]) -> dict[str, Any]:
    """A folder that all nodes of this machine see, for the claim of one pod."""
    folder.mkdir()
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{pod}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": namespace, "name": f"data-{pod}"},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
