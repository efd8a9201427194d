"""Settings of the operator, read once from the environment (RALLYPOINT_<NAME>)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rallypoint.kit.runtime import RuntimeSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator; any number may run, one of them leads."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    watch_namespace: str = ""
    """The namespace whose sets are looked after; empty: all."""
    own_namespace: str = "default"
    """Where the Lease and the certificate of the webhooks are kept."""
    kube_context: str = ""
    """A context of the kubeconfig; empty: the present one, or the pod's own account."""
    lease_s: float = 15.0
    """How long the Lease of a leader that is gone lasts."""
    renew_s: float = 10.0
    """How long a leader goes on without having renewed it."""
    retry_s: float = 2.0
    """How often the Lease is renewed, or looked at."""
    creates_per_pass: int = 256
    """Servers of a set made in one go, at first 1, then 2, 4 … 64 at the same time."""
    deletes_per_pass: int = 64
    pending_most: int = 500
    """Servers of a set that may be starting at the same time."""
    status_period_s: float = 1.0
    """At most so often is the status of a set written."""
    pass_period_s: float = 0.1
    """At most so often is a set gone through, however much happens."""
    autoscale_period_s: float = 5.0
    """How often the wanted number is thought about."""
    scale_after_s: float = 0.5
    """How soon after a change it is thought about."""
    gone_after_s: float = 30.0
    """When a server that was not heard for so long is let go without being asked."""
    webhook_port: int = 0
    """Where admission and conversion are served over TLS; 0: nowhere."""
    webhook_service: str = "rallypoint-operator"
    """The Service through which the API server reaches them."""
    webhook_secret: str = "rallypoint-operator-webhooks"  # noqa: S105  # its name
    """Where their certificate is shared; made when it is not there."""
    webhook_configuration: str = "rallypoint-operator"
    """The ValidatingWebhookConfiguration of this operator: one name for each in a cluster."""
