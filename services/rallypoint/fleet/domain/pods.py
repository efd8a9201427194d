"""The pod of a server: made from its revision, and read for what became of it.

A game pod has no rights on the cluster and no agent beside it: it learns its name from its
environment and tells the brokers the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rallypoint.fleet.domain.phases import PodPhase
from rallypoint.fleet.domain.revisions import pod_spec
from rallypoint.fleet.domain.workload import Pod

SET, SERVER, REVISION = "rallypoint.dev/set", "rallypoint.dev/server", "rallypoint.dev/revision"
OCCUPIED = "rallypoint.dev/occupied"
"""Label of pods that a disruption budget protects."""
PROTECTING: Mapping[str, str] = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations of pods that no autoscaler of nodes may move."""
HOPELESS = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
})  # fmt: skip
NAMES = {"app.kubernetes.io/name": "room-state", "app.kubernetes.io/managed-by": "rallypoint"}


def body(
    *,
    set_name: str,
    server: str,
    revision: str,
    data: Mapping[str, Any],
    owner: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the pod of a server."""
    template = data.get("template", {})
    made = template.get("metadata", {})
    pod_meta = template.get("spec", {}).get("pod", {}).get("metadata") or {}
    own = {SET: set_name, SERVER: server, REVISION: revision}
    # Names may be the template's: a chart's policies and monitors select by them.
    labels = {**NAMES, **made.get("labels", {}), **(pod_meta.get("labels") or {}), **own}
    spec = dict(pod_spec(data))
    spec["containers"] = _containers(spec.get("containers") or (), data, set_name, server)
    spec.setdefault("affinity", _affinity(set_name, packed=data.get("scheduling") != "Distributed"))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": server,
            "labels": labels,
            "annotations": {
                **made.get("annotations", {}), **(pod_meta.get("annotations") or {})
            },
            "ownerReferences": [dict(owner)],
        },
        "spec": spec,
    }  # fmt: skip


def _containers(
    containers: Any, data: Mapping[str, Any], set_name: str, server: str
) -> list[dict[str, Any]]:
    chosen = container(data)
    env = _environment(set_name, server, rooms=data.get("rooms", 8))
    result = []
    for one in containers:
        made = dict(one)
        if made.get("name") == chosen:
            given = list(made.get("env") or ())
            known = {entry.get("name") for entry in given}
            made["env"] = [entry for entry in env if entry["name"] not in known] + given
            made["ports"] = _ports(made.get("ports") or (), data)
            if not made["ports"]:
                del made["ports"]
        result.append(made)
    return result


def container(data: Mapping[str, Any]) -> str:
    """Return the container that runs rooms: the one that is named, or the first."""
    named: str = data.get("template", {}).get("spec", {}).get("container", "")
    containers: Any = pod_spec(data).get("containers") or ({},)
    return named or str(containers[0].get("name", ""))


def _environment(set_name: str, server: str, *, rooms: int) -> list[dict[str, Any]]:
    host = {"fieldRef": {"fieldPath": "status.podIP"}}
    uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
    return [
        {"name": "RALLYPOINT_NODE_ID", "value": server},
        {"name": "RALLYPOINT_INSTANCE", "value": server},
        {"name": "RALLYPOINT_SET", "value": set_name},
        {"name": "RALLYPOINT_ROOM_CAPACITY", "value": str(rooms)},
        {"name": "RALLYPOINT_POD_UID", "valueFrom": uid},
        {"name": "RALLYPOINT_ADVERTISE_HOST", "valueFrom": host},
        {"name": "RALLYPOINT_GRPC_HOST", "value": "0.0.0.0"},  # noqa: S104  # its pod's
        {"name": "RALLYPOINT_METRICS_HOST", "value": "0.0.0.0"},  # noqa: S104  # its pod's
    ]


def _ports(given: Any, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    ports = [dict(one) for one in given]
    for port in data.get("template", {}).get("spec", {}).get("ports") or ():
        if any(one.get("name") == port["name"] for one in ports):
            continue
        protocol = "UDP" if port.get("protocol") == "UDP" else "TCP"
        made = {"name": port["name"], "containerPort": port["containerPort"], "protocol": protocol}
        if port.get("policy") == "Static":
            made["hostPort"] = port["containerPort"]
        ports.append(made)
    return ports


def _affinity(set_name: str, *, packed: bool) -> dict[str, Any]:
    """Fill nodes, so that others empty and may go, or spread over them."""
    term = {
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {SET: set_name}},
        },
    }
    kind = "podAffinity" if packed else "podAntiAffinity"
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}


def phase(pod: Pod | None, *, now: float, startup_s: float) -> PodPhase:
    """Return a pod's phase; one whose container will not come up counts as failed in time."""
    if pod is None:
        return ""
    status = pod.status
    found = status.phase if status is not None else ""
    if found in ("Succeeded", "Failed"):
        return "Succeeded" if found == "Succeeded" else "Failed"
    if trouble(pod) and now - seconds(pod.metadata.creation_timestamp, now) > startup_s:
        return "Failed"
    return "Running" if found == "Running" else "Pending"


def trouble(pod: Pod) -> str:
    """Return why a container does not come up, if it is for a reason that waiting cannot cure."""
    for one in (pod.status.container_statuses or ()) if pod.status else ():
        waiting = one.state.waiting
        if waiting is not None and waiting.reason in HOPELESS:
            return f"{waiting.reason} {waiting.message}".strip()
    return ""


def running_for_s(pod: Pod | None, name: str, now: float) -> float:
    """Return for how long the container that runs rooms has been running."""
    if not name and pod and pod.spec.containers:
        name = pod.spec.containers[0].name
    for one in (pod.status.container_statuses or ()) if pod and pod.status else ():
        if one.name == name and one.state.running is not None:
            return now - seconds(one.state.running.started_at, now)
    started = pod.status.start_time if pod and pod.status else None
    return now - seconds(started, now)


def seconds(text: str | None, otherwise: float) -> float:
    """Return the Unix seconds of a time of the API server."""
    if not text:
        return otherwise
    return datetime.fromisoformat(text).timestamp()
