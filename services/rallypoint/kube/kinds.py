"""Kinds: which type lies under which path of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from rallypoint.kube import objects
from rallypoint.kube.objects import T


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A resource of the API and the type its objects are decoded into."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[T]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of one object, or of the collection where no name is given."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        return "/".join(part for part in (*parts, self.plural, name, subresource) if part)

    def reference(self, item: T) -> objects.ObjectReference:
        """Return a reference to an object, for events."""
        meta = item.metadata
        return objects.ObjectReference(
            api_version=self.api_version,
            kind=self.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )

    def owner(self, item: T) -> objects.OwnerReference:
        """Return what makes an object go when `item` goes."""
        return objects.OwnerReference(
            api_version=self.api_version,
            kind=self.kind,
            name=item.metadata.name,
            uid=item.metadata.uid,
            controller=True,
            block_owner_deletion=True,
        )


LEASES = Kind("coordination.k8s.io", "v1", "Lease", "leases", objects.Lease)
EVENTS = Kind("events.k8s.io", "v1", "Event", "events", objects.Event)
SECRETS = Kind("", "v1", "Secret", "secrets", objects.Secret)
CONFIG_MAPS = Kind("", "v1", "ConfigMap", "configmaps", objects.ConfigMap)
NAMESPACES = Kind("", "v1", "Namespace", "namespaces", objects.Namespace, namespaced=False)
