"""The kinds of Kubernetes itself that the operator works with."""

from __future__ import annotations

from rallypoint.fleet import resources
from rallypoint.fleet.domain import workload
from rallypoint.kube.domain.owners import Managed
from rallypoint.kube.kinds import Kind

PODS = Kind("", "v1", "Pod", "pods", workload.Pod)
MACHINES = Kind("", "v1", "Node", "nodes", workload.Machine, namespaced=False)
REVISIONS = Kind("apps", "v1", "ControllerRevision", "controllerrevisions", workload.Revision)
OWNED_SETS = Kind(
    resources.GAME_SERVER_SETS.group, "v1", "GameServerSet", "gameserversets", Managed
)
BUDGETS = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", workload.Budget)
