"""GameServer: one pod that runs rooms, as Kubernetes users see it. The CRD is made from this.

Every field has one owner: spec is the operator's, status too, but for `claims`, which allocators
mirror, and the condition NETWORK_HEALTHY, which the probe of the node writes. Objects stay small
(no pod template in them): there are ten thousand of them in a watch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from rallypoint.kube.objects import Object, Resource
from rallypoint.kube.schema import Field, Rule

Phase = Literal[
    "Pending", "Starting", "Ready", "Active", "Full", "Draining", "Unhealthy", "Failed",
    "Terminating",
]  # fmt: skip
# The usual ways. Phases are derived from what is seen, level-triggered, so the API server forbids
# only the impossible: see the rules of `GameServerStatus.phase`.
USUAL: Mapping[Phase, tuple[Phase, ...]] = {
    "Pending": ("Starting", "Failed", "Terminating"),
    "Starting": ("Ready", "Unhealthy", "Failed", "Terminating"),
    "Ready": ("Active", "Full", "Draining", "Unhealthy", "Terminating"),
    "Active": ("Ready", "Full", "Draining", "Unhealthy", "Terminating"),
    "Full": ("Ready", "Active", "Draining", "Unhealthy", "Terminating"),
    "Draining": ("Ready", "Terminating", "Unhealthy"),
    "Unhealthy": ("Ready", "Draining", "Terminating", "Failed"),
    "Failed": ("Terminating",),
    "Terminating": (),
}
NETWORK_HEALTHY = "NetworkHealthy"
"""What the node's probe says of the server's sockets: retransmits, the path, dropped datagrams. It
is not there where no probe is; Unknown once the probe was stopped. It changes no phase: what is
wrong with a network is seldom mended by another pod of the same node."""
NAME_PATTERN = "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"
Protocol = Literal["UDP", "TCP", "TCPUDP"]


class Condition(Object, frozen=True, kw_only=True):
    """One observation about an object, as kubectl wait reads it."""

    type: Annotated[str, Field("What is observed.", max_length=64)]
    status: Annotated[Literal["True", "False", "Unknown"], Field("Whether it is so.")]
    reason: Annotated[str, Field("Why, in one word.", max_length=128)] = ""
    message: Annotated[str, Field("Why, in a sentence.", max_length=1024)] = ""
    last_transition_time: Annotated[
        str | None, Field("Since when it is so.", format="date-time")
    ] = None
    observed_generation: Annotated[int | None, Field("Which spec was looked at.")] = None


CONDITIONS = Field("What is observed about it.", list_type="map", list_keys=("type",), max_items=16)


class GameServerSpec(Object, frozen=True, kw_only=True):
    """What the operator wants of this server."""

    set_name: Annotated[str, Field("The set it belongs to.", pattern=NAME_PATTERN, max_length=32)]
    ordinal: Annotated[int, Field("Its number in the set.", minimum=0, maximum=1_000_000)]
    revision: Annotated[
        str, Field("The ControllerRevision with its pod template.", max_length=253)
    ] = ""
    drain: Annotated[bool, Field("It shall end its rooms and take no new ones.")] = False
    deletion_cost: Annotated[int, Field("Servers of lower cost are scaled in first.")] = 0
    update_priority: Annotated[int, Field("Servers of higher priority are updated first.")] = 0
    immutable_replicas: Annotated[
        int, Field("Always 1: lets a disruption budget count bare pods.", minimum=1, maximum=1)
    ] = 1

    __rules__ = (
        Rule(
            "self.setName == oldSelf.setName && self.ordinal == oldSelf.ordinal",
            "setName and ordinal are the server's identity and cannot change",
        ),
    )


class Port(Object, frozen=True, kw_only=True):
    """A port that players reach."""

    name: Annotated[str, Field("Its name in the template.", max_length=63)]
    port: Annotated[int, Field("Where it is reached.", minimum=1, maximum=65_535)]
    protocol: Annotated[Protocol, Field("Its transport.")] = "TCP"


class Occupancy(Object, frozen=True, kw_only=True):
    """Who plays there, by the server's own registrations and heartbeats."""

    rooms: Annotated[int, Field("Rooms that run.", minimum=0)] = 0
    players: Annotated[int, Field("Players in them.", minimum=0)] = 0
    capacity_rooms: Annotated[int, Field("Rooms that fit.", minimum=0)] = 0
    heartbeat_time: Annotated[str | None, Field("Last sign of life.", format="date-time")] = None
    epoch: Annotated[int, Field("The set's epoch at that time.", minimum=0)] = 0

    __rules__ = (
        Rule("self.rooms <= self.capacityRooms", "more rooms than the server has capacity for"),
    )


class Claim(Object, frozen=True, kw_only=True):
    """A slot that an allocator has promised, mirrored from Redis for people and for disasters."""

    request_id: Annotated[str, Field("Who asked.", max_length=128)]
    rooms: Annotated[int, Field("Slots promised.", minimum=1)] = 1
    expires_at: Annotated[
        str | None, Field("When it is free again unless confirmed.", format="date-time")
    ] = None


class DrainStatus(Object, frozen=True, kw_only=True):
    """Why and until when it is being emptied."""

    reason: Annotated[str, Field("What asked for it.", max_length=128)] = ""
    since: Annotated[str | None, Field("Since when.", format="date-time")] = None
    deadline: Annotated[str | None, Field("Until when rooms may go on.", format="date-time")] = None


class GameServerStatus(Object, frozen=True, kw_only=True):
    """What is known of this server."""

    phase: Annotated[
        Phase,
        Field(
            "Where it is in its life; derived, with the operator as its one writer.",
            rules=(
                Rule(
                    "oldSelf != 'Terminating' || self == 'Terminating'",
                    "a server that is Terminating cannot come back",
                ),
                Rule(
                    "oldSelf != 'Failed' || self in ['Failed', 'Terminating']",
                    "a server that has Failed can only terminate",
                ),
            ),
        ),
    ] = "Pending"
    pod_name: Annotated[str, Field("Its pod.", max_length=253)] = ""
    pod_uid: Annotated[str, Field("That very pod.", max_length=64)] = msgspec.field(
        name="podUID", default=""
    )
    node_name: Annotated[str, Field("The node the pod runs on.", max_length=253)] = ""
    address: Annotated[str, Field("Where it is reached.", max_length=253)] = ""
    ports: Annotated[
        tuple[Port, ...],
        Field("Its ports.", list_type="map", list_keys=("name",), max_items=16),
    ] = ()
    occupancy: Annotated[Occupancy | None, Field("Who plays there.")] = None
    claims: Annotated[
        tuple[Claim, ...],
        Field("Slots promised.", list_type="map", list_keys=("requestId",), max_items=256),
    ] = ()
    drain: Annotated[DrainStatus | None, Field("How it is being emptied, if it is.")] = None
    conditions: Annotated[tuple[Condition, ...], CONDITIONS] = ()
    immutable_replicas: Annotated[int, Field("Always 1.", minimum=0, maximum=1)] = 1


class GameServer(Resource, frozen=True, kw_only=True):
    """One pod that runs rooms."""

    spec: GameServerSpec
    status: GameServerStatus | None = None

    __rules__ = (
        Rule(
            # The name is taken apart, not put together: a number as text has no bound for CEL.
            "self.metadata.name.startsWith(self.spec.setName + '-') && self.metadata.name"
            ".substring(size(self.spec.setName) + 1) == string(self.spec.ordinal)",
            "a server is named <setName>-<ordinal>",
        ),
    )
