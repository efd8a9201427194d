"""Who owns a field: read from an object's managedFields.

Server-side apply refuses what another manager owns; where a subresource knows no apply (the scale
of a custom resource answers 500 to it) the question is asked beforehand with this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rallypoint.kube.objects import Object, ObjectMeta, Resource


class Entry(Object, frozen=True, kw_only=True):
    """What one manager owns through one subresource; `fields_v1` is a tree of `f:<name>`."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    fields_v1: Mapping[str, Any] = {}


class ManagedMeta(ObjectMeta, frozen=True, kw_only=True):
    """Metadata with what every other type leaves out."""

    managed_fields: tuple[Entry, ...] = ()


class Managed(Resource, frozen=True, kw_only=True):
    """Any object, as far as its owners go."""

    metadata: ManagedMeta = ManagedMeta()


def owners(entries: Sequence[Entry], *path: str) -> list[Entry]:
    """Return who owns the field at a path, such as `"spec", "replicas"`."""
    return [entry for entry in entries if _has(entry.fields_v1, path)]


def _has(tree: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(tree, Mapping) or f"f:{name}" not in tree:
            return False
        tree = tree[f"f:{name}"]
    return True
