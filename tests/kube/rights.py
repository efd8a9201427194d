"""The rights that the chart gives, in a namespace of a test, so that tests work with no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import chart
from tests.support.kubernetes import ApiServer

KINDS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Lease")


def listed(items: list[dict[str, Any]]) -> str:
    """Objects as one text for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def moved(one: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The object in another namespace, if it is in one."""
    meta = one["metadata"]
    return {**one, "metadata": {**meta, "namespace": namespace}} if "namespace" in meta else one


def account(component: str) -> str:
    """The name of a component's account."""
    return f"{chart.RELEASE}-rallypoint-{component}"


def of(component: str, namespace: str) -> str:
    """A component's account, its roles and its Lease, in a namespace of a test."""
    name = account(component)
    made = [
        moved(one, namespace)
        for one in chart.of_kind("everything", *KINDS)
        if one["metadata"]["name"].endswith(name)
        or (one["kind"] == "Lease" and name.endswith(one["metadata"]["name"]))
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return listed([{**one, "subjects": [subject]} if "subjects" in one else one for one in made])


@contextmanager
def kubeconfig(server: ApiServer, component: str, namespace: str, folder: Path) -> Iterator[Path]:
    """A configuration with the account of a component, which has its rights meanwhile."""
    name = account(component)
    server.does("apply", "-f", "-", stdin=of(component, namespace))
    try:
        token = server.does("create", "token", name, "-n", namespace).strip()
        config = json.loads(server.kubeconfig.read_text())
        config["users"] = [{"name": "admin", "user": {"token": token}}]
        path = folder / f"{component}.kubeconfig"
        path.write_text(json.dumps(config))
        yield path
    finally:
        cluster_wide = f"{chart.NAMESPACE}-{name}"
        kinds = [f"{kind}/{cluster_wide}" for kind in ("clusterrole", "clusterrolebinding")]
        server.kubectl("delete", "--ignore-not-found", *kinds)
