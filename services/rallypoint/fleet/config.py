"""Settings of fleet, read once from the environment (RALLYPOINT_<NAME>)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rallypoint.kit.runtime import RuntimeSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """One allocator; any number may run side by side."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    mirror_namespace: str = ""
    """The namespace of the GameServers that tell of claims that hang; empty: none do."""
    kube_context: str = ""
    """A context of the kubeconfig; empty: the present one, or the pod's own account."""
    claim_ttl_s: float = 30.0
    """How long a claimed slot waits for its room; longer than an Allocate can take."""
    closing_s: float = 10.0
    """How long one clean-up of an expired claim may take before another may try."""
    create_timeout_s: float = 2.0
    """How long a node may take to make a room before another node is tried."""
    moving_s: float = 5.0
    """How long one try to move a dead node's room may take before a sweep takes it up again."""
    recovery_wait_s: float = 30.0
    """How long a dead node's room waits for a slot elsewhere before it is lost."""
    node_tries: int = 3
    """How many nodes one Allocate tries."""
    move_timeout_s: float = 15.0
    """How long a node may take to move a room; the room stands still for a fraction of it."""
    ping_period_s: float = 1.0
    """How often each node is called; the protocol with nodes says each second."""
    silence_s: float = 3.2
    """How long a node may be unheard before a failed ping means its death."""
    sweep_period_s: float = 1.0
    """How often expired claims are looked for."""
    scan_period_s: float = 10.0
    """How often all ownership is compared with the nodes that live."""
    unknown_node_s: float = 20.0
    """How long after our start a node that never registered counts as dead; over the 15 s TTL."""
