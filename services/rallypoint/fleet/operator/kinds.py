"""The kinds of Kubernetes itself that the operator works with."""

from __future__ import annotations

from rallypoint.fleet.domain import workload
from rallypoint.kube.kinds import Kind

PODS = Kind("", "v1", "Pod", "pods", workload.Pod)
MACHINES = Kind("", "v1", "Node", "nodes", workload.Machine, namespaced=False)
REVISIONS = Kind("apps", "v1", "ControllerRevision", "controllerrevisions", workload.Revision)
BUDGETS = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", workload.Budget)
