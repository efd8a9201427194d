"""What a cluster has and lacks for the chart, the operator and the probe. Reads only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from rallypoint.cli.doctor_check import Check, State, judged, too_far, version
from rallypoint.cli.doctor_machine import LEAST_KERNEL
from rallypoint.fleet import resources
from rallypoint.kit import errors
from rallypoint.kube import config
from rallypoint.kube.crd import CustomResource
from rallypoint.kube.transport import Call, Transport

LEAST_KUBERNETES = (1, 30)
"""The CRDs use CEL with functions that are there since then."""
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
INSTALLS = (
    ("", "pods", "list"),
    ("", "secrets", "create"),
    ("", "services", "create"),
    ("apps", "deployments", "create"),
    ("apps", "statefulsets", "create"),
    ("policy", "poddisruptionbudgets", "create"),
    ("networking.k8s.io", "networkpolicies", "create"),
    ("rbac.authorization.k8s.io", "roles", "create"),
    ("rallypoint.dev", "gameserversets", "create"),
)
"""What `helm install` does in its namespace: group, resource, verb."""


async def look(environ: Mapping[str, str], *, context: str | None, namespace: str) -> list[Check]:
    """Everything; only the first check when the API server cannot be asked."""
    cluster = config.detect(environ, context=context)
    async with Transport(cluster) as transport:
        try:
            told = await _get(transport, "/version")
        except errors.RallypointError as error:
            fix = "check the kubeconfig, its context and the way to the server"
            return [Check("API server", State.BAD, f"{cluster.server}: {error.message}", fix)]
        return [
            _server(told),
            *[await look_at_crd(transport, resource) for resource in resources.ALL],
            await _rights(transport, namespace or cluster.namespace),
            *await _nodes(transport, told["gitVersion"]),
        ]


def _server(told: Mapping[str, Any]) -> Check:
    seen = str(told["gitVersion"])
    fix = "Kubernetes 1.30 or newer: the rules in the CRDs need it"
    return judged("API server", version(seen) >= LEAST_KUBERNETES, seen, fix)


async def look_at_crd(transport: Transport, resource: CustomResource) -> Check:
    """Whether the server has a CRD as this version has it."""
    name = f"CRD {resource.name}"
    apply = "kubectl apply --server-side --force-conflicts -f helm/rallypoint/crds"
    fix = f"{apply} (Helm made them and does not upgrade them)"
    try:
        there = await _get(transport, f"{CRDS}/{resource.name}")
    except errors.NotFound:
        return Check(name, State.BAD, "not installed", fix)
    except errors.RallypointError as error:
        return Check(name, State.WARN, error.message, "ask with an account that may read CRDs")
    ours = yaml.safe_load(resource.as_yaml(source=resources.SOURCE))
    different = sorted(differences(ours["spec"], there["spec"]))
    if different:
        return Check(name, State.BAD, f"differs at {', '.join(different[:3])}", fix)
    served = any(
        one["type"] == "Established" and one["status"] == "True"
        for one in there.get("status", {}).get("conditions", [])
    )
    return judged(name, served, "as this version has it", "kubectl describe crd: not established")


def differences(ours: Any, theirs: Any, at: str = "spec") -> Iterable[str]:
    """Where theirs does not say what ours says; what the server adds does not count.

    A list counts whole, as do the fields of a schema: a field that only theirs has would be
    accepted by the server and known to nobody.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        closed = at.endswith(".properties")
        for key in (ours.keys() | theirs.keys()) if closed else ours.keys():
            if key not in theirs or key not in ours:
                yield f"{at}.{key}"
            else:
                yield from differences(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(mine, other, f"{at}[{number}]")
    elif ours != theirs:
        yield at


async def _rights(transport: Transport, namespace: str) -> Check:
    refused = []
    for group, resource, verb in INSTALLS:
        wish = {"namespace": namespace, "group": group, "resource": resource, "verb": verb}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wish},
        }
        call = Call("POST", REVIEWS, body=json.dumps(body).encode())
        try:
            answer = json.loads(await transport.request(call))
        except errors.RallypointError as error:
            return Check("rights", State.WARN, error.message, "the server tells nobody its rights")
        if not answer["status"]["allowed"]:
            refused.append(f"{verb} {resource}")
    seen = f"may not {', '.join(refused)}" if refused else f"may install into {namespace}"
    fix = f"have an administrator install, or grant these in {namespace}"
    return judged("rights", not refused, seen, fix, otherwise=State.WARN)


async def _nodes(transport: Transport, server: str) -> list[Check]:
    try:
        items = (await _get(transport, "/api/v1/nodes"))["items"]
    except errors.RallypointError as error:
        fix = "ask with an account that may list nodes"
        return [Check("nodes", State.WARN, error.message, fix)]
    return judge_nodes([Node.of(item) for item in items], server)


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """What a node says of itself."""

    name: str
    ready: bool
    kernel: str
    kubelet: str
    system: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Node:
        """From the API's object."""
        status = item.get("status", {})
        info = status.get("nodeInfo", {})
        ready = any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in status.get("conditions", [])
        )
        return cls(
            name=item["metadata"]["name"],
            ready=ready,
            kernel=info.get("kernelVersion", ""),
            kubelet=info.get("kubeletVersion", ""),
            system=info.get("operatingSystem", "linux"),
        )


def judge_nodes(nodes: Sequence[Node], server: str) -> list[Check]:
    """Readiness, kernels for the probe, and versions."""
    if not nodes:
        return [Check("nodes", State.BAD, "there are none", "nothing can run: add nodes")]
    linux = [node for node in nodes if node.system == "linux"]
    ready = [node.name for node in linux if node.ready]
    old = [node for node in linux if version(node.kernel) < LEAST_KERNEL]
    far = [node for node in nodes if too_far(server, node.kubelet)]
    return [
        judged(
            "nodes",
            len(ready) == len(nodes),
            f"{len(ready)} of {len(nodes)} ready",
            "kubectl describe node: " + ", ".join(n.name for n in nodes if n.name not in ready),
            otherwise=State.WARN if ready else State.BAD,
        ),
        judged(
            "probe: kernels",
            not old,
            ", ".join(f"{n.name} {n.kernel}" for n in old) or "new enough everywhere",
            "the probe sees everything from Linux 6.3 on and less before (docs/probe.md)",
            otherwise=State.WARN,
        ),
        judged(
            "kubelets",
            not far,
            ", ".join(f"{n.name} {n.kubelet}" for n in far) or f"fit {server}",
            "upgrade: a kubelet may be up to three minors older than the server, never newer",
            otherwise=State.WARN,
        ),
    ]


async def _get(transport: Transport, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await transport.request(Call("GET", path)))
    return found
