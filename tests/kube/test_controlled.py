"""The parts of a cluster that act on objects: controllers, the scheduler, nodes of KWOK."""

from __future__ import annotations

import json
from typing import Any

from tests.support.cluster import fakes
from tests.support.kubernetes import ApiServer


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "only", "image": "none"}], **fakes.FOR_FAKES}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def test_pods_run_on_fake_nodes_and_end_with_their_owner(controlled: ApiServer) -> None:
    controlled.does("apply", "-f", "-", stdin=json.dumps(deployment("many", 40)))
    controlled.does("rollout", "status", "deployment/many", "--timeout=60s")
    nodes = controlled.does("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert len(nodes) == 40
    assert set(nodes) == {f"fake-{n}" for n in range(5)}
    controlled.does("delete", "deployment/many", "--cascade=foreground", "--timeout=60s")
    assert controlled.does("get", "pods", "-o", "name") == ""
