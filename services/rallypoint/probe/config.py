"""The settings of the probe (`kit.settings`: RALLYPOINT_PROBE_MODE and so on)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rallypoint.kit.settings import SettingsError
from rallypoint.probe import source, wish
from rallypoint.probe.domain.health import Limits
from rallypoint.probe.domain.layout import MOST_SLOTS, Config

_MS_NS: Final = 1_000_000
_SCOPES: Final = ("auto", "pods", "all")
_CLUSTERS: Final = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, how much of it, and where it goes."""

    probe_mode: str = "full"
    """The step of the ladder to begin with: full, old, light, inet_diag or snmp."""
    probe_ports: tuple[str, ...] = ()
    """Only servers' ports in this list; none: all."""
    probe_scope: str = "auto"
    """pods: sockets of pods only; all: of everything on the machine; auto: pods, if there are."""
    probe_cgroup_root: Path | None = None
    """Where the cgroup tree is; by default the host's in a pod, else what is mounted."""
    probe_slots: int = 256
    """Series at most: pods times ports times roles. 12.5 KB each."""
    probe_window_ms: int = 1000
    """A connection's least round trip is taken once per window."""
    probe_slow_ms: int = 200
    """A round trip above this is an event with the socket's cookie; 0: none."""
    probe_adopt_s: int = 60
    """So long connections that are older than the probe are taken in."""
    probe_calls: bool = False
    """Also time calls: gRPC by method, HTTP/2, DNS. The loader needs CAP_NET_ADMIN for it."""
    probe_host: str = "127.0.0.1"
    """Where GET /metrics is answered."""
    probe_port: int = 9400
    """0: any free one, told on standard output; -1: nowhere."""
    probe_otlp_endpoint: str = ""
    """A collector's URL, as http://collector:4318/v1/metrics; empty: no push."""
    probe_push_s: int = 10
    """Seconds from push to push."""
    probe_hot_update: bool = False
    """Keep the loader with its rights, so that SIGHUP swaps the programs."""
    probe_canary_percent: int = 10
    """The share of the connections that new programs count for first."""
    probe_canary_s: int = 60
    """So long, before they get all or none."""
    probe_kubernetes: str = "auto"
    """Names from its API. on: by the kubeconfig or the pod's account; auto: in a pod; off: ids."""
    probe_conditions: bool = False
    """Write the condition NetworkHealthy of the node's GameServers."""
    probe_unhealthy_rtt_ms: int = 250
    """A network is unhealthy when half of the least round trips are above this, …"""
    probe_unhealthy_retransmits_percent: int = 5
    """… or more than this share is sent again, …"""
    probe_health_window_s: int = 10
    """… in three windows of this length in a row; healthy again after six good ones."""
    probe_node_name: str = ""
    """The node's name, told as k8s.node.name, by which its pods are asked for; else the host's."""


def wanted(settings: Settings, *, pods_root: int, adopt: bool = False) -> wish.Wanted:
    """What to load for these settings; SettingsError for what cannot be meant."""
    if settings.probe_mode not in source.MODES:
        raise SettingsError(f"RALLYPOINT_PROBE_MODE: set it to one of {', '.join(source.MODES)}")
    if settings.probe_scope not in _SCOPES:
        raise SettingsError(f"RALLYPOINT_PROBE_SCOPE: set it to one of {', '.join(_SCOPES)}")
    if not 1 <= settings.probe_slots <= MOST_SLOTS:
        raise SettingsError(f"RALLYPOINT_PROBE_SLOTS: set it to 1 to {MOST_SLOTS}")
    every = settings.probe_scope == "all" or (settings.probe_scope == "auto" and not pods_root)
    return wish.Wanted(
        mode=settings.probe_mode,
        slots=settings.probe_slots,
        resident=settings.probe_hot_update,
        ports=_ports(settings.probe_ports),
        config=Config(
            window_ns=settings.probe_window_ms * _MS_NS,
            slow_ns=settings.probe_slow_ms * _MS_NS,
            pods_root=pods_root,
            adopt=adopt,
            full=settings.probe_mode != "light",
            every_cgroup=every,
            every_port=not settings.probe_ports,
        ),
    )


def limits(settings: Settings) -> Limits:
    """Where an unhealthy network begins."""
    return Limits(
        retransmits=settings.probe_unhealthy_retransmits_percent / 100,
        path_s=settings.probe_unhealthy_rtt_ms / 1000,
        window_s=settings.probe_health_window_s,
    )


def node_name(settings: Settings) -> str:
    """Where we are."""
    return settings.probe_node_name or socket.gethostname()


def in_cluster(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether to ask a Kubernetes API for names."""
    if settings.probe_kubernetes not in _CLUSTERS:
        text = f"RALLYPOINT_PROBE_KUBERNETES: set it to one of {', '.join(_CLUSTERS)}"
        raise SettingsError(text)
    in_pod = "KUBERNETES_SERVICE_HOST" in environ
    return settings.probe_kubernetes == "on" or (settings.probe_kubernetes == "auto" and in_pod)


def _ports(words: tuple[str, ...]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        raise SettingsError("RALLYPOINT_PROBE_PORTS: set it to numbers with commas") from None
