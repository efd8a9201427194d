"""The kinds of rallypoint.dev: names, columns, subresources; the chart's CRDs are made here."""

from __future__ import annotations

from collections.abc import Mapping

from rallypoint.fleet.domain.game_server import NETWORK_HEALTHY, GameServer
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.game_server_set_beta import GROUP, GameServerSetBeta
from rallypoint.kube.crd import Column, CustomResource, ScalePaths, Version
from rallypoint.kube.kinds import Kind

SOURCE = "rallypoint.fleet.resources"
GAME_SERVERS = Kind(GROUP, "v1", "GameServer", "gameservers", GameServer)
GAME_SERVER_SETS = Kind(GROUP, "v1", "GameServerSet", "gameserversets", GameServerSet)
GAME_SERVER_SETS_BETA = Kind(GROUP, "v1beta1", "GameServerSet", "gameserversets", GameServerSetBeta)
AGE = Column("Age", ".metadata.creationTimestamp", "date", "Since when it is there.")

_SET_SCALE = ScalePaths(".spec.replicas", ".status.replicas", ".status.selector")
_SET_COLUMNS = (
    Column("Desired", ".status.desiredReplicas", "integer", "Servers wanted now."),
    Column("Current", ".status.replicas", "integer", "Servers there are."),
    Column("Ready", ".status.readyReplicas", "integer", "Servers that take rooms."),
    Column("Empty", ".status.emptyReplicas", "integer", "Ready ones without a room."),
    Column("Occupied", ".status.occupiedReplicas", "integer", "Servers with rooms."),
    Column("Updated", ".status.updatedReplicas", "integer", "Servers of the newest revision."),
    Column("Rooms", ".status.rooms.used", "integer", "Rooms that run."),
    AGE,
    Column("Players", ".status.players.used", "integer", "Players in them.", 1),
    Column("Draining", ".status.drainingReplicas", "integer", "Servers being emptied.", 1),
    Column("Reason", ".status.lastScaleReason", "string", "Why it was last scaled.", 1),
)
_SERVER_COLUMNS = (
    Column("Phase", ".status.phase", "string", "Where it is in its life."),
    Column("Rooms", ".status.occupancy.rooms", "integer", "Rooms that run."),
    Column("Players", ".status.occupancy.players", "integer", "Players in them."),
    Column("Address", ".status.address", "string", "Where it is reached."),
    Column("Node", ".status.nodeName", "string", "The node its pod runs on."),
    Column("Rev", ".spec.revision", "string", "The revision of its template."),
    AGE,
    Column(
        NETWORK_HEALTHY,
        f'.status.conditions[?(@.type=="{NETWORK_HEALTHY}")].status',
        "string",
        "How the probe finds the network of its pod.",
        1,
    ),
)

GAME_SERVER = CustomResource(
    versions=(
        Version(
            GAME_SERVERS,
            storage=True,
            columns=_SERVER_COLUMNS,
            selectable=(".spec.setName", ".status.phase", ".status.nodeName"),
            scale=ScalePaths(".spec.immutableReplicas", ".status.immutableReplicas"),
        ),
    ),
    short_names=("rgs",),
    categories=("fleet",),
)
GAME_SERVER_SET = CustomResource(
    versions=(
        Version(GAME_SERVER_SETS, storage=True, columns=_SET_COLUMNS, scale=_SET_SCALE),
        Version(
            GAME_SERVER_SETS_BETA,
            columns=_SET_COLUMNS,
            scale=_SET_SCALE,
            deprecated="rallypoint.dev/v1beta1 GameServerSet is deprecated: use v1",
        ),
    ),
    short_names=("rgss",),
    categories=("fleet",),
)
ALL = (GAME_SERVER, GAME_SERVER_SET)


def files() -> Mapping[str, str]:
    """Return the chart's crds/: text by file name."""
    return {f"{resource.kind.plural}.yaml": resource.as_yaml(source=SOURCE) for resource in ALL}
