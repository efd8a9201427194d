"""CustomResourceDefinitions from annotated types, as plain values and as YAML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

import yaml

from rallypoint.kube import schema
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import T

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
