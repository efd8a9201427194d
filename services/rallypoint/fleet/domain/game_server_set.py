"""GameServerSet: so many servers of one template, scaled and updated without ending a match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from rallypoint.fleet.domain.game_server import CONDITIONS, Condition, Protocol
from rallypoint.kube.objects import Object, Resource
from rallypoint.kube.schema import Field, Rule

MOST_REPLICAS = 50_000
PERCENT = r"^(\d+|\d{1,3}%)$"
Order = Literal["DeletionCost", "NotReady", "Superseded", "EmptiestNode", "Newest"]
PolicyType = Literal["RoomBuffer", "PlayerBuffer", "ServerBuffer", "Schedule", "Webhook"]


def _percent(doc: str) -> Field:
    # A text's length bounds what the rules may cost.
    return Field(f"{doc} A number or a percentage.", pattern=PERCENT, max_length=8)


class TemplatePort(Object, frozen=True, kw_only=True):
    """A port of the container that players reach."""

    name: Annotated[str, Field("Its name.", pattern="^[a-z0-9-]+$", max_length=63)]
    container_port: Annotated[
        int, Field("The port inside the container.", minimum=1, maximum=65_535)
    ]
    protocol: Annotated[Protocol, Field("Its transport.")] = "TCP"
    policy: Annotated[
        Literal["Dynamic", "Passthrough", "Static", "None"],
        Field("How it is opened on the node; None when a gateway carries all traffic."),
    ] = "None"
    range: Annotated[str, Field("The named range a dynamic port is from.", max_length=63)] = ""


class TemplateSpec(Object, frozen=True, kw_only=True):
    """What a server is made of."""

    pod: Annotated[Mapping[str, Any], Field("A PodTemplateSpec.")] = {}
    container: Annotated[str, Field("The container that runs rooms.", max_length=63)] = ""
    ports: Annotated[
        tuple[TemplatePort, ...],
        Field("Ports that players reach.", list_type="map", list_keys=("name",), max_items=16),
    ] = ()


class TemplateMeta(Object, frozen=True, kw_only=True):
    """What its servers are labelled with."""

    labels: Annotated[Mapping[str, str], Field("Labels.", max_properties=64)] = {}
    annotations: Annotated[Mapping[str, str], Field("Annotations.", max_properties=64)] = {}


class Template(Object, frozen=True, kw_only=True):
    """From which each server is made; its hash is the revision."""

    metadata: Annotated[TemplateMeta, Field("Labels and annotations.")] = TemplateMeta()
    spec: Annotated[TemplateSpec, Field("The pod and its ports.")] = TemplateSpec()


class Capacity(Object, frozen=True, kw_only=True):
    """What one server holds."""

    rooms: Annotated[int, Field("Rooms.", minimum=1, maximum=256)] = 8
    players: Annotated[int, Field("Players.", minimum=1, maximum=100_000)] = 128


class Health(Object, frozen=True, kw_only=True):
    """When a silent server counts as unhealthy."""

    startup_seconds: Annotated[int, Field("How long it may start.", minimum=1, maximum=3600)] = 60
    heartbeat_seconds: Annotated[int, Field("How often it beats.", minimum=1, maximum=60)] = 1
    failure_threshold: Annotated[
        int, Field("Missed beats that count as failure.", minimum=1, maximum=60)
    ] = 3


class Allocation(Object, frozen=True, kw_only=True):
    """How slots are claimed."""

    claim_ttl_seconds: Annotated[
        int,
        Field(
            "When an unconfirmed claim is free again.",
            minimum=1,
            maximum=600,
        ),
    ] = msgspec.field(name="claimTTLSeconds", default=30)
    prefer_updated: Annotated[bool, Field("Fill servers of the newest revision first.")] = True


class ScaleIn(Object, frozen=True, kw_only=True):
    """How empty servers go. An occupied or claimed one is never a candidate."""

    min_idle_seconds: Annotated[
        int, Field("How long it must have been empty.", minimum=0, maximum=86_400)
    ] = 60
    max_per_step: Annotated[int, Field("At most so many at once.", minimum=1, maximum=1000)] = 100
    order: Annotated[tuple[Order, ...], Field("Which go first.", list_type="set", max_items=5)] = (
        "DeletionCost",
        "NotReady",
        "Superseded",
        "EmptiestNode",
        "Newest",
    )


class Drain(Object, frozen=True, kw_only=True):
    """How long rooms may go on when a server must go."""

    timeout_seconds: Annotated[int, Field("How long.", minimum=0, maximum=86_400)] = 1800
    on_timeout: Annotated[
        Literal["Wait", "Force"], Field("Wait on, or end the rooms (an event tells each).")
    ] = "Wait"


class Update(Object, frozen=True, kw_only=True):
    """How servers of an older revision are replaced."""

    type: Annotated[Literal["RollingUpdate"], Field("The way.")] = "RollingUpdate"
    partition: Annotated[
        int, Field("So many stay on the old revision.", minimum=0, maximum=MOST_REPLICAS)
    ] = 0
    max_surge: Annotated[int | str, _percent("So many more than wanted meanwhile.")] = "25%"
    max_unavailable: Annotated[int | str, _percent("So many fewer ready meanwhile.")] = 0
    paused: Annotated[bool, Field("Go no further.")] = False
    in_place: Annotated[
        Literal["IfPossible", "Never"], Field("Whether images of empty servers are swapped.")
    ] = "IfPossible"
    max_session_seconds: Annotated[
        int, Field("Drain superseded servers after this; 0 never.", minimum=0, maximum=604_800)
    ] = 0
    max_failed: Annotated[int | str, _percent("Stop when so many of the new ones fail.")] = "10%"

    __rules__ = (
        Rule(
            "!(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])",
            "maxSurge and maxUnavailable cannot both be zero: nothing could ever be replaced",
        ),
    )


class Schedule(Object, frozen=True, kw_only=True):
    """A floor for some time of the day."""

    cron: Annotated[str, Field("When it begins.", max_length=128)]
    time_zone: Annotated[str, Field("The zone of that time.", max_length=64)] = "UTC"
    duration: Annotated[str, Field("How long it lasts (1h30m).", max_length=32)]
    floor: Annotated[int, Field("At least so many servers.", minimum=0, maximum=MOST_REPLICAS)]


class Webhook(Object, frozen=True, kw_only=True):
    """Somebody else's opinion."""

    url: Annotated[str, Field("Who is asked.", max_length=2048, pattern="^https?://")]


class Policy(Object, frozen=True, kw_only=True):
    """One opinion about how many servers are needed; the highest of all counts."""

    name: Annotated[str, Field("Its name, shown in the reason.", max_length=63)]
    type: Annotated[PolicyType, Field("What it looks at.")]
    buffer: Annotated[int | str | None, _percent("What is kept free.")] = None
    schedule: Annotated[Schedule | None, Field("For type Schedule.")] = None
    webhook: Annotated[Webhook | None, Field("For type Webhook.")] = None

    __rules__ = (
        Rule("self.type != 'Schedule' || has(self.schedule)", "type Schedule needs a schedule"),
        Rule("self.type != 'Webhook' || has(self.webhook)", "type Webhook needs a webhook"),
        Rule(
            "!self.type.endsWith('Buffer') || has(self.buffer)",
            "RoomBuffer, PlayerBuffer and ServerBuffer need a buffer",
        ),
    )


class ScaleOutPace(Object, frozen=True, kw_only=True):
    """How fast it grows."""

    max_step: Annotated[int | str, _percent("At most so many more at once.")] = "100%"
    period_seconds: Annotated[int, Field("Once in this time.", minimum=1, maximum=3600)] = 15


class ScaleInPace(Object, frozen=True, kw_only=True):
    """How slowly it shrinks."""

    stabilization_seconds: Annotated[
        int, Field("The highest need of this time counts.", minimum=0, maximum=3600)
    ] = 300
    max_step: Annotated[int | str, _percent("At most so many fewer at once.")] = "20%"
    period_seconds: Annotated[int, Field("Once in this time.", minimum=1, maximum=3600)] = 60


class Autoscaling(Object, frozen=True, kw_only=True):
    """How the number of servers follows the players; then `replicas` is left out."""

    min: Annotated[int, Field("At least so many.", minimum=0, maximum=MOST_REPLICAS)] = 0
    max: Annotated[int, Field("At most so many.", minimum=0, maximum=MOST_REPLICAS)]
    policies: Annotated[
        tuple[Policy, ...],
        Field("Opinions.", list_type="map", list_keys=("name",), min_items=1, max_items=16),
    ]
    scale_out: Annotated[ScaleOutPace, Field("How fast it grows.")] = ScaleOutPace()
    scale_in: Annotated[ScaleInPace, Field("How slowly it shrinks.")] = ScaleInPace()

    __rules__ = (Rule("self.min <= self.max", "autoscaling.min is above autoscaling.max"),)


class GameServerSetSpec(Object, frozen=True, kw_only=True):
    """What is wanted. The operator never writes here but through /scale."""

    replicas: Annotated[
        int | None, Field("How many servers; left out with autoscaling.", minimum=0,
                          maximum=MOST_REPLICAS),
    ] = None  # fmt: skip
    reserved_ordinals: Annotated[
        tuple[str, ...],
        Field(
            "Numbers and ranges never used (3, 7-9).", list_type="set", max_items=256,
            item_pattern="^[0-9]+(-[0-9]+)?$", item_max_length=15,
        ),
    ] = ()  # fmt: skip
    template: Annotated[Template, Field("From which servers are made.")] = Template()
    capacity: Annotated[Capacity, Field("What one server holds.")] = Capacity()
    health: Annotated[Health, Field("When a server is unhealthy.")] = Health()
    scheduling: Annotated[
        Literal["Packed", "Distributed"], Field("Fill nodes, or spread over them.")
    ] = "Packed"
    eviction: Annotated[
        Literal["WhileEmpty", "Never", "Always"], Field("When the cluster may move a server.")
    ] = "WhileEmpty"
    allocation: Annotated[Allocation, Field("How slots are claimed.")] = Allocation()
    scale_in: Annotated[ScaleIn, Field("How empty servers go.")] = ScaleIn()
    drain: Annotated[Drain, Field("How long rooms may go on.")] = Drain()
    update: Annotated[Update, Field("How servers are replaced.")] = Update()
    autoscaling: Annotated[Autoscaling | None, Field("How the number follows players.")] = None


class Usage(Object, frozen=True, kw_only=True):
    """Used, of what there is."""

    used: Annotated[int, Field("Used.", minimum=0)] = 0
    capacity: Annotated[int, Field("There.", minimum=0)] = 0


class GameServerSetStatus(Object, frozen=True, kw_only=True):
    """What is there."""

    observed_generation: Annotated[int, Field("Which spec this is about.")] = 0
    selector: Annotated[str, Field("Its servers' labels, for the HPA.", max_length=1024)] = ""
    replicas: Annotated[int, Field("Servers there are.", minimum=0)] = 0
    desired_replicas: Annotated[int, Field("Servers wanted now.", minimum=0)] = 0
    ready_replicas: Annotated[int, Field("Servers that take rooms.", minimum=0)] = 0
    empty_replicas: Annotated[int, Field("Ready ones without a room.", minimum=0)] = 0
    occupied_replicas: Annotated[int, Field("Servers with rooms.", minimum=0)] = 0
    draining_replicas: Annotated[int, Field("Servers being emptied.", minimum=0)] = 0
    updated_replicas: Annotated[int, Field("Servers of the newest revision.", minimum=0)] = 0
    failed_replicas: Annotated[int, Field("Servers that failed.", minimum=0)] = 0
    rooms: Annotated[Usage, Field("Rooms.")] = Usage()
    players: Annotated[Usage, Field("Players.")] = Usage()
    current_revision: Annotated[str, Field("The revision most run.", max_length=253)] = ""
    update_revision: Annotated[str, Field("The newest revision.", max_length=253)] = ""
    collision_count: Annotated[int, Field("Revision names that clashed.", minimum=0)] = 0
    last_scale_time: Annotated[
        str | None, Field("When the wanted number last changed.", format="date-time")
    ] = None
    last_scale_reason: Annotated[str, Field("Why.", max_length=1024)] = ""
    conditions: Annotated[tuple[Condition, ...], CONDITIONS] = ()


class GameServerSet(Resource, frozen=True, kw_only=True):
    """So many game servers of one template."""

    spec: GameServerSetSpec
    status: GameServerSetStatus | None = None

    __rules__ = (
        Rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$')",
            "a set's name has at most 32 letters, digits and dashes: it begins its servers' names",
        ),
    )
