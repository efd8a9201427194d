"""Admission and conversion of sets, served by every replica, and who trusts them.

The certificate is made here and shared through a Secret; the leader writes its CA into the
webhook's configuration and into the CRD.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from rallypoint.fleet import resources
from rallypoint.fleet.domain import game_server_set_beta as beta
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.reviewing import review
from rallypoint.kube import crd
from rallypoint.kube.api import Api
from rallypoint.kube.certificates import Certificates
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import Resource
from rallypoint.kube.transport import Gate, Transport
from rallypoint.kube.webhook import Admission, Server, Verdict

REVIEW, CONVERT = "/review/gameserversets", "/convert"


class Configuration(Resource, frozen=True, kw_only=True):
    """ValidatingWebhookConfiguration; only ever applied."""


CONFIGURATIONS = Kind(
    "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations", Configuration, namespaced=False,
)  # fmt: skip


def server(certificates: Certificates) -> Server:
    """Return the server of all webhooks; `certificates` were ensured."""
    made = Server(certificates.context)
    made.admit(REVIEW, admit)
    made.convert(CONVERT, beta.convert)
    return made


def admit(asked: Admission) -> Verdict:
    """Judge a set that somebody applies; what was wrong before and is not changed stays."""
    if asked.new is None:
        return Verdict()
    try:
        item = msgspec.convert(beta.convert(dict(asked.new), beta.STABLE), GameServerSet)
    except msgspec.ValidationError as error:
        return Verdict(allowed=False, message=str(error))
    found = review(item)
    deleting = item.metadata.deletion_timestamp is not None
    if found.errors and not deleting and _changes(asked):
        return Verdict(allowed=False, message="; ".join(found.errors), warnings=found.warnings)
    return Verdict(warnings=found.warnings)


def _changes(asked: Admission) -> bool:
    """Whether the spec is another; scaling a set that was admitted before is never refused."""
    if asked.old is None or asked.new is None:
        return True
    old, new = (dict(one.get("spec") or {}) for one in (asked.old, asked.new))
    return {**old, "replicas": 0} != {**new, "replicas": 0}


def client(service: str, namespace: str, path: str) -> dict[str, Any]:
    """Return how the API server reaches a path through a Service."""
    return {"service": {"name": service, "namespace": namespace, "path": path, "port": 443}}


def configuration(reached: dict[str, Any], *, ca: bytes, namespace: str = "") -> dict[str, Any]:
    """Return the webhook's configuration; it forbids nothing while nobody answers."""
    bundle = base64.b64encode(ca).decode()
    rule = {
        "apiGroups": [beta.GROUP], "apiVersions": ["v1"], "resources": ["gameserversets"],
        "operations": ["CREATE", "UPDATE"], "scope": "Namespaced",
    }  # fmt: skip
    webhook = {
        "name": f"sets.{beta.GROUP}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": bundle, **reached},
        "rules": [rule],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": 5,
    }
    if namespace:
        labels = {"kubernetes.io/metadata.name": namespace}
        webhook["namespaceSelector"] = {"matchLabels": labels}
    return {"webhooks": [webhook]}


async def entrust(
    transport: Transport, *, gate: Gate, manager: str, ca: bytes, name: str, service: str,
    own_namespace: str, watched: str,
) -> None:  # fmt: skip
    """Have the API server ask us, and trust our certificate."""
    configurations = Api(transport, CONFIGURATIONS, manager=manager, gate=gate)
    reached = client(service, own_namespace, REVIEW)
    wanted = configuration(reached, ca=ca, namespace=watched)
    await configurations.apply(name, wanted, force=True)
    convert = client(service, own_namespace, CONVERT)["service"]
    value = crd.with_conversion({"spec": {}}, ca_bundle=ca, service=convert)
    definitions = Api(transport, crd.DEFINITIONS, manager=manager, gate=gate)
    await definitions.merge_patch(resources.GAME_SERVER_SET.name, {"spec": value["spec"]})
