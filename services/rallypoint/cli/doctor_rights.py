"""What who asks must be allowed for `helm install` to go through, by what is switched on.

A contract test compares what is below with all that the chart renders.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from rallypoint.cli.doctor_check import Check, State, judged
from rallypoint.kit import errors
from rallypoint.kube.transport import Call, Transport

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
MAKES = ("create", "get", "patch")
"""What Helm does with a kind, at the first installation and at later ones."""
ADMISSION = "admissionregistration.k8s.io"
READS = ("get", "list", "watch")
WRITES = ("create", "patch", "delete")
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Objects, or a part of them, and what is done with them."""

    group: str
    plural: str
    verbs: tuple[str, ...] = MAKES
    cluster_wide: bool = False

    def wish(self, verb: str, namespace: str) -> dict[str, str]:
        """Return what the API server is asked about."""
        plural, _, part = self.plural.partition("/")
        asked = {"group": self.group, "resource": plural, "subresource": part, "verb": verb}
        return asked if self.cluster_wide else {**asked, "namespace": namespace}


def _in(group: str, *plurals: str, verbs: tuple[str, ...] = MAKES) -> tuple[Kind, ...]:
    return tuple(Kind(group=group, plural=plural, verbs=verbs) for plural in plurals)


def _wide(group: str, *plurals: str, verbs: tuple[str, ...] = MAKES) -> tuple[Kind, ...]:
    kinds = _in(group, *plurals, verbs=verbs)
    return tuple(dataclasses.replace(kind, cluster_wide=True) for kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A way to install, and what it takes beside the first of FORMS."""

    name: str
    makes: tuple[Kind, ...]
    holds: tuple[Kind, ...] = ()
    """What Helm looks at, and what the form's roles give: nobody may give what they have not."""
    fix: str


PLAIN = Form(
    name="rights",
    makes=(
        # What lies in crds/ is made whatever is switched on; Helm finds out so that it is there.
        *_wide("apiextensions.k8s.io", "customresourcedefinitions", verbs=("create", "get")),
        *_in("", "configmaps", "secrets", "serviceaccounts", "services"),
        *_in("apps", "deployments", "statefulsets"),
        *_in("networking.k8s.io", "networkpolicies"),
        *_in("policy", "poddisruptionbudgets"),
    ),
    holds=(
        *_in("", "secrets", verbs=("list", "update", "delete")),  # where Helm keeps releases
        *_in("", "pods", verbs=("list",)),
    ),
    fix="have an administrator install, or grant these; --skip-crds leaves out the "
    "customresourcedefinitions that an administrator applied",
)
OPERATOR = Form(
    name="rights: operator",
    makes=(
        *_in("rallypoint.dev", "gameserversets"),
        *_in("coordination.k8s.io", "leases"),
        *_in(RBAC, "roles", "rolebindings"),
        *_wide(RBAC, "clusterroles", "clusterrolebindings"),
        *_wide(ADMISSION, "validatingwebhookconfigurations"),
    ),
    holds=(
        *_in("rallypoint.dev", "gameserversets", verbs=READS),
        *_in("rallypoint.dev", "gameserversets/status", "gameserversets/scale", verbs=("patch",)),
        *_in("rallypoint.dev", "gameservers", verbs=("list", "watch", *WRITES)),
        *_in("rallypoint.dev", "gameservers/status", verbs=("patch",)),
        *_in(
            "rallypoint.dev",
            "gameserversets/finalizers",
            "gameservers/finalizers",
            verbs=("update",),
        ),
        *_in("", "pods", verbs=(*READS, "create", "patch")),
        *_in("apps", "controllerrevisions", verbs=(*READS, *WRITES)),
        *_in("coordination.k8s.io", "leases", verbs=("update",)),
        *_in("events.k8s.io", "events", verbs=("create", "patch")),
        *_wide("apiextensions.k8s.io", "customresourcedefinitions", verbs=("patch",)),
        *_wide("", "nodes", verbs=("list", "watch")),
    ),
    fix="with operator.enabled: have an administrator install, or grant these",
)
PROBE = Form(
    name="rights: probe",
    makes=(
        *_in("apps", "daemonsets"),
        *_wide(RBAC, "clusterroles", "clusterrolebindings"),
        *_wide(ADMISSION, "validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    ),
    holds=(
        *_wide("", "pods", verbs=READS),
        *_wide("rallypoint.dev", "gameservers/status", verbs=("patch",)),
    ),
    fix="with probe.enabled: have an administrator install, or grant these",
)
CHOSEN = Form(
    name="rights: choices",
    makes=(
        *_in("autoscaling", "horizontalpodautoscalers"),
        *_in("cert-manager.io", "certificates"),
        *_in("gateway.networking.k8s.io", "grpcroutes", "httproutes"),
        *_in("keda.sh", "scaledobjects", "triggerauthentications"),
        *_in("monitoring.coreos.com", "podmonitors", "prometheusrules"),
        *_in("networking.k8s.io", "ingresses"),
    ),
    fix="grant these, or leave out the autoscaling, tls, routes and monitoring that make them",
)
FORMS = (PLAIN, OPERATOR, PROBE, CHOSEN)


async def look(transport: Transport, namespace: str) -> list[Check]:
    """Ask for every form what who asks may not."""
    try:
        return [await _form(transport, form, namespace) for form in FORMS]
    except errors.RallypointError as error:
        fix = "the server tells nobody their rights: see what `helm install` is refused"
        return [Check(PLAIN.name, State.WARN, error.message, fix)]


async def _form(transport: Transport, form: Form, namespace: str) -> Check:
    asked = [_refused(transport, kind, namespace) for kind in (*form.makes, *form.holds)]
    refused = [one for one in await asyncio.gather(*asked) if one]
    seen = f"may not {', '.join(refused)}" if refused else f"may install into {namespace}"
    return judged(form.name, not refused, seen, form.fix, otherwise=State.WARN)


async def _refused(transport: Transport, kind: Kind, namespace: str) -> str:
    """Return the first thing that may not be done with a kind."""
    for verb in kind.verbs:
        if not await may(transport, kind.wish(verb, namespace)):
            return f"{verb} {kind.plural}"
    return ""


async def may(transport: Transport, wish: Mapping[str, str]) -> bool:
    """Whether who asks may do something: `verb`, `resource` and, where there are any, more."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(wish)},
    }
    call = Call("POST", REVIEWS, body=json.dumps(body).encode())
    return bool(json.loads(await transport.request(call))["status"]["allowed"])
