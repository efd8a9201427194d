"""Objects as immutable typed values, and what the runtime itself needs of the core types.

A type names only the fields its program reads: all others (managedFields first) are skipped while
decoding and never kept. Defaults are not sent: the CRD, generated from the same type, has them too.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from rallypoint.kit.clock import Clock


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Any part of an object: frozen, camelCase on the wire, without what equals its default."""


class OwnerReference(Object, frozen=True, kw_only=True):
    """Who an object goes with."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Object, frozen=True, kw_only=True):
    """What every object has."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Resource(Object, frozen=True, kw_only=True):
    """An object of the API: subclasses add spec and status."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone where there is no namespace."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


T = TypeVar("T", bound=Resource)


class ListMeta(Object, frozen=True, kw_only=True):
    """Where a list stands: its version, and how to go on."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class Scale(Resource, frozen=True, kw_only=True):
    """The scale subresource, as kubectl and the HPA use it."""

    spec: ScaleSpec
    status: ScaleStatus | None = None


class ScaleSpec(Object, frozen=True, kw_only=True):
    """What is wanted."""

    replicas: int = 0


class ScaleStatus(Object, frozen=True, kw_only=True):
    """What is there."""

    replicas: int = 0
    selector: str = ""


def micro_time(clock: Clock) -> str:
    """Return the present as a MicroTime, which leases and events tell times by."""
    moment = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseSpec(Object, frozen=True, kw_only=True):
    """Who leads, since when and for how long."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Resource, frozen=True, kw_only=True):
    """coordination.k8s.io/v1."""

    spec: LeaseSpec = LeaseSpec()


class ObjectReference(Object, frozen=True, kw_only=True):
    """Which object is meant."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class EventSeries(Object, frozen=True, kw_only=True):
    """How often the same happened again."""

    count: int
    last_observed_time: str


class Event(Resource, frozen=True, kw_only=True):
    """events.k8s.io/v1: what happened to an object, for people who look later."""

    event_time: str | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""
    action: str = ""
    reason: str = ""
    regarding: ObjectReference = ObjectReference()
    note: str = ""
    type: str  # required there: a default of ours would not be sent
    series: EventSeries | None = None


class Secret(Resource, frozen=True, kw_only=True):
    """A Secret; values are base64 on the wire and bytes here."""

    type: str = "Opaque"
    data: Mapping[str, bytes] = {}


class ConfigMap(Resource, frozen=True, kw_only=True):
    """A ConfigMap."""

    data: Mapping[str, str] = {}


class Namespace(Resource, frozen=True, kw_only=True):
    """A namespace."""
