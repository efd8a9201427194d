"""Objects of Kubernetes itself, as far as the operator reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallypoint.kube.objects import Object, ObjectMeta, Resource


class Waiting(Object, frozen=True, kw_only=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class Running(Object, frozen=True, kw_only=True):
    """Since when a container runs."""

    started_at: str | None = None


class ContainerState(Object, frozen=True, kw_only=True):
    """What a container does."""

    waiting: Waiting | None = None
    running: Running | None = None


class ContainerStatus(Object, frozen=True, kw_only=True):
    """One container of a pod, as its kubelet sees it."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()


class PodStatus(Object, frozen=True, kw_only=True):
    """A pod, as its kubelet sees it."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = ""
    start_time: str | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class Container(Object, frozen=True, kw_only=True):
    """A container of a pod's spec."""

    name: str = ""
    image: str = ""


class PodSpec(Object, frozen=True, kw_only=True):
    """Where a pod runs, and what."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()


class Pod(Resource, frozen=True, kw_only=True):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus | None = None


class Taint(Object, frozen=True, kw_only=True):
    """Who shall not come to a node."""

    key: str = ""
    effect: str = ""


class NodeSpec(Object, frozen=True, kw_only=True):
    """Whether a node takes pods."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None


class Machine(Resource, frozen=True, kw_only=True):
    """v1 Node; a `Node` of fleet is a process."""

    spec: NodeSpec = NodeSpec()


class Revision(Resource, frozen=True, kw_only=True):
    """apps/v1 ControllerRevision: a template as it was, and its number."""

    data: Mapping[str, Any] | None = None
    revision: int = 0


class Budget(Resource, frozen=True, kw_only=True):
    """policy/v1 PodDisruptionBudget; only ever applied."""


GOING = frozenset({
    "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption",
    "node.kubernetes.io/unschedulable", "node.kubernetes.io/out-of-service",
})  # fmt: skip
"""Taints of nodes that somebody is about to take away."""


def is_leaving(machine: Machine | None) -> bool:
    """Tell whether a node takes no more pods because it shall go."""
    if machine is None:
        return False
    taints = machine.spec.taints or ()
    return machine.spec.unschedulable or any(taint.key in GOING for taint in taints)


def controller_uid(meta: ObjectMeta) -> str:
    """Return the uid of the object that this one goes with."""
    return next((owner.uid for owner in meta.owner_references if owner.controller), "")
