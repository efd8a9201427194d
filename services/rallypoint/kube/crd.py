"""CustomResourceDefinitions from annotated types, as plain values and as YAML."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

import yaml

from rallypoint.kube import schema
from rallypoint.kube.api import Api
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import Object, Resource, T
from rallypoint.kube.transport import Transport

SCHEMA_HEADER = "# Made by `rallypoint crd generate` from {source}. Do not edit.\n"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; those of priority 1 are shown with `-o wide`."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    doc: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its numbers."""

    wanted: str
    present: str
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Version(Generic[T]):
    """One version of a kind."""

    kind: Kind[T]
    storage: bool = False
    columns: Sequence[Column] = ()
    selectable: Sequence[str] = ()
    scale: ScalePaths | None = None
    deprecated: str = ""
    name_max_length: int = 63

    def as_value(self) -> dict[str, Any]:
        """Return the entry of spec.versions."""
        subresources: dict[str, Any] = {"status": {}}
        if self.scale is not None:
            subresources["scale"] = _scale(self.scale)
        value: dict[str, Any] = {
            "name": self.kind.version,
            "served": True,
            "storage": self.storage,
            "schema": {"openAPIV3Schema": self.schema()},
            "subresources": subresources,
            "additionalPrinterColumns": [_column(column) for column in self.columns],
        }
        if self.selectable:
            value["selectableFields"] = [{"jsonPath": path} for path in self.selectable]
        if self.deprecated:
            value |= {"deprecated": True, "deprecationWarning": self.deprecated}
        return value

    def schema(self) -> dict[str, Any]:
        """Return the structural schema: metadata is the API server's own business."""
        whole = schema.of_object(self.kind.type, only=("spec", "status"))
        plain = {"type": "string"}
        # Without a bound on the name, a rule that looks at it may cost too much.
        name = {"type": "string", "maxLength": self.name_max_length}
        metadata = {"type": "object", "properties": {"name": name}}
        known = {"apiVersion": dict(plain), "kind": dict(plain), "metadata": metadata}
        return whole | {"properties": known | whole["properties"]}


@dataclass(frozen=True, slots=True)
class CustomResource:
    """A kind in all its versions."""

    versions: Sequence[Version[Any]]
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind[Any]:
        """The kind in its stored version."""
        return next(version.kind for version in self.versions if version.storage)

    @property
    def name(self) -> str:
        """The name of the definition."""
        return f"{self.kind.plural}.{self.kind.group}"

    def as_value(self) -> dict[str, Any]:
        """Return the whole definition."""
        kind = self.kind
        names = {
            "kind": kind.kind,
            "listKind": f"{kind.kind}List",
            "plural": kind.plural,
            "singular": kind.kind.lower(),
            "shortNames": list(self.short_names),
            "categories": list(self.categories),
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name, **({"labels": self.labels} if self.labels else {})},
            "spec": {
                "group": kind.group,
                "scope": "Namespaced" if kind.namespaced else "Cluster",
                "names": names,
                "versions": [version.as_value() for version in self.versions],
            },
        }

    def as_yaml(self, *, source: str) -> str:
        """Return the file for a chart's crds/; byte for byte the same for the same types."""
        text = yaml.dump(self.as_value(), Dumper=_Plain, sort_keys=False, width=100)
        return SCHEMA_HEADER.format(source=source) + text


class _Plain(yaml.SafeDumper):
    """No anchors: two equal parts are two parts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _scale(paths: ScalePaths) -> dict[str, str]:
    known = {
        "specReplicasPath": paths.wanted,
        "statusReplicasPath": paths.present,
        "labelSelectorPath": paths.selector,
    }
    return {name: path for name, path in known.items() if path}


def _column(column: Column) -> dict[str, Any]:
    value: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.doc:
        value["description"] = column.doc
    if column.priority:
        value["priority"] = column.priority
    return value


class Definition(Resource, frozen=True, kw_only=True):
    """A CustomResourceDefinition as far as we look at it."""

    status: DefinitionStatus | None = None


class DefinitionStatus(Object, frozen=True, kw_only=True):
    """Whether it is served."""

    conditions: tuple[DefinitionCondition, ...] | None = None  # null at first


class DefinitionCondition(Object, frozen=True, kw_only=True):
    """One observation."""

    type: str
    status: str


DEFINITIONS = Kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    Definition,
    namespaced=False,
)


async def install(transport: Transport, custom: CustomResource, *, manager: str) -> None:
    """Apply a definition and wait until its kind is served."""
    api = Api(transport, DEFINITIONS, manager=manager)
    value = custom.as_value()
    found = await api.apply(custom.name, {"spec": value["spec"]})
    while not _established(found):
        await asyncio.sleep(0.1)
        found = await api.get(custom.name)


def _established(found: Definition) -> bool:
    conditions = (found.status.conditions if found.status else None) or ()
    return any(one.type == "Established" and one.status == "True" for one in conditions)


def with_conversion(
    definition: dict[str, Any], *, ca_bundle: bytes, service: dict[str, Any] | None = None,
    url: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Return a definition whose versions are converted by a webhook (`webhook.Server`)."""
    client: dict[str, Any] = {"caBundle": base64.b64encode(ca_bundle).decode()}
    client |= {"url": url} if url else {"service": service}
    conversion = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
    }
    return {**definition, "spec": {**definition["spec"], "conversion": conversion}}
