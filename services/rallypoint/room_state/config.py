"""Settings of a room node, read once from the environment (RALLYPOINT_<NAME>)."""

from dataclasses import dataclass, field

from rallypoint.kit.runtime import RuntimeSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """One process, which is one node."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    node_id: str = "local-1"
    """The node's stable name: on Kubernetes <set>-<ordinal>, the pod's name by the downward API."""
    set: str = "local"
    """The set of nodes it belongs to."""
    pod_uid: str = ""
    """The UID of its pod, from the downward API; empty outside Kubernetes."""
    node_labels: tuple[str, ...] = ()
    """What allocations may select it by, each `key=value`."""
    room_capacity: int = 256
    """Rooms it accepts."""
    games: tuple[str, ...] = ()
    """Games it runs; empty: all that are installed."""
    extra_games: tuple[str, ...] = ()
    """Games it runs besides, without their being installed: each `name=module:Class`."""
    advertise_host: str = ""
    """The host other services reach it at; empty: the one it listens on."""
    trunk_port: int = 0
    """Where gateways may open trunks (docs/wire.md), at the host of internal gRPC; 0: any free
    port, -1: nowhere, Attach stays with gRPC."""
    result_wait_s: float = 2.0
    """How long players wait for their result to be stored before they are told it anyway."""
    freeze_after_s: float = 10.0
    """How long rooms go on without NATS and without fleet's ping."""
    replay_pending_bytes: int = 16 * 1024 * 1024
    """What may wait to be stored of the rooms that are recorded; above it the oldest is dropped."""
    attach_pending_bytes: int = 4 * 1024 * 1024
    """What may wait for a slow gateway; above it its clients get keyframes instead of deltas."""
