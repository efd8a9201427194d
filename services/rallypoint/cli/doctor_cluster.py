"""What a cluster has and lacks for the chart, the operator and the probe. Reads only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from rallypoint.cli import doctor_rights
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
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
FIGURES = "/apis/metrics.k8s.io/v1beta1"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
ENFORCED = "pod-security.kubernetes.io/enforce"
APPLY = "kubectl apply --server-side --force-conflicts -f helm/rallypoint/crds"


async def look(environ: Mapping[str, str], *, context: str | None, namespace: str) -> list[Check]:
    """Everything; only the first check when the API server cannot be asked."""
    cluster = config.detect(environ, context=context)
    async with Transport(cluster) as transport:
        try:
            told = await _get(transport, "/version")
        except errors.RallypointError as error:
            fix = "check the kubeconfig, its context and the way to the server"
            return [Check("API server", State.BAD, f"{cluster.server}: {error.message}", fix)]
        where = namespace or cluster.namespace
        return [
            _server(told),
            *await look_at_crds(transport, resources.ALL),
            *await doctor_rights.look(transport, where),
            await _storage(transport),
            await _namespace(transport, where),
            await _figures(transport),
            *await _nodes(transport, told["gitVersion"]),
        ]


def _server(told: Mapping[str, Any]) -> Check:
    seen = str(told["gitVersion"])
    fix = "Kubernetes 1.30 or newer: the rules in the CRDs need it"
    return judged("API server", version(seen) >= LEAST_KUBERNETES, seen, fix)


async def look_at_crds(transport: Transport, wanted: Sequence[CustomResource]) -> list[Check]:
    """Whether the server has CRDs as this version has them, or none at all."""
    there: list[dict[str, Any] | None] = []
    for resource in wanted:
        try:
            there.append(await _get(transport, f"{CRDS}/{resource.name}"))
        except errors.NotFound:
            there.append(None)
        except errors.RallypointError as error:
            fix = "ask with an account that may read CRDs"
            return [Check(f"CRD {one.name}", State.WARN, error.message, fix) for one in wanted]
    fresh = not any(there)
    pairs = zip(wanted, there, strict=True)
    return [judge_crd(resource, found, fresh=fresh) for resource, found in pairs]


def judge_crd(resource: CustomResource, there: Mapping[str, Any] | None, *, fresh: bool) -> Check:
    """What to do about one CRD, as the server has it; fresh: it has none of ours."""
    name = f"CRD {resource.name}"
    fix = f"{APPLY} (Helm makes them once and does not upgrade them)"
    if there is None and fresh:
        return Check(name, State.OK, "not there: `helm install` brings it, `helm upgrade` does not")
    if there is None:
        return Check(name, State.BAD, "not there, though others of ours are", fix)
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


async def _storage(transport: Transport) -> Check:
    try:
        return judge_classes((await _get(transport, CLASSES))["items"])
    except errors.RallypointError as error:
        fix = "ask with an account that may list storage classes"
        return Check("storage", State.WARN, error.message, fix)


def judge_classes(classes: Sequence[Mapping[str, Any]]) -> Check:
    """Whether the volumes of NATS and Redis are made when nothing is set."""
    names = ", ".join(one["metadata"]["name"] for one in classes)
    default = [
        one["metadata"]["name"]
        for one in classes
        if one["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"
    ]
    if default:
        return Check("storage", State.OK, f"{default[0]} is the default class")
    if names:
        seen = "no default among the storage classes: volumes stay pending"
        fix = f"set nats.storage.className and redis.storage.className, or mark a default: {names}"
    else:
        seen = "no storage class: volumes stay pending"
        fix = "install a provisioner of volumes, or external brokers (nats.bundled, redis.bundled)"
    return Check("storage", State.WARN, seen, fix)


async def _namespace(transport: Transport, namespace: str) -> Check:
    name = "namespace"
    try:
        found = await _get(transport, f"/api/v1/namespaces/{namespace}")
    except errors.NotFound:
        return await _new_namespace(transport, namespace)
    except errors.RallypointError as error:
        fix = "ask with an account that may read it; it has to be there"
        return Check(name, State.WARN, error.message, fix)
    level = found["metadata"].get("labels", {}).get(ENFORCED, "privileged")
    fix = f"only with probe.enabled: probe.namespace, one labelled {ENFORCED}=privileged"
    seen = f"{namespace} takes {level} pods"
    return judged(name, level == "privileged", seen, fix, otherwise=State.WARN)


async def _new_namespace(transport: Transport, namespace: str) -> Check:
    try:
        allowed = await doctor_rights.may(transport, {"resource": "namespaces", "verb": "create"})
    except errors.RallypointError:
        allowed = True  # that nobody is told their rights is said with the rights
    seen = f"no {namespace} yet: `helm install --create-namespace` makes it"
    if not allowed:
        seen = f"no {namespace}, and may not create namespaces"
    fix = f"have an administrator make {namespace}"
    return judged("namespace", allowed, seen, fix, otherwise=State.WARN)


async def _figures(transport: Transport) -> Check:
    name = "autoscaling"
    fix = "install metrics-server, or leave autoscaling.kind of gateway and fleet at none"
    try:
        await _get(transport, FIGURES)
    except errors.NotFound:
        return Check(name, State.WARN, "nobody serves metrics.k8s.io: no CPU figures", fix)
    except errors.RallypointError as error:
        return Check(name, State.WARN, error.message, fix)
    return Check(name, State.OK, "metrics.k8s.io is served")


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
