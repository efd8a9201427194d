"""Where a cluster is and who we are there: from a kubeconfig, or from inside a pod.

Several kubeconfig files (KUBECONFIG) are merged as kubectl does: the first to name a thing wins.
Files that a kubeconfig names are relative to it. Nothing is read later but tokens, which rotate.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rallypoint.kit.settings import SettingsError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that prints credentials (client.authentication.k8s.io)."""

    command: str
    api_version: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    provide_cluster_info: bool = False
    install_hint: str = ""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One cluster and one user. Certificates and keys are PEM; a repr shows no secret."""

    name: str
    server: str
    namespace: str = "default"
    ca: bytes | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    client_certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    basic: tuple[str, str] | None = field(default=None, repr=False)
    exec_plugin: ExecPlugin | None = None
    proxy_url: str | None = None


def detect(environ: Mapping[str, str], *, context: str | None = None) -> ClusterConfig:
    """Return the configuration kubectl would use, or that of the pod we run in."""
    paths = kubeconfig_paths(environ)
    if "KUBECONFIG" not in environ and "KUBERNETES_SERVICE_HOST" in environ and not context:
        return in_cluster(environ)
    return from_files(paths, context=context)


def kubeconfig_paths(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that KUBECONFIG names, or the usual one."""
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"]


def in_cluster(environ: Mapping[str, str], *, account: Path = ACCOUNT) -> ClusterConfig:
    """Return the configuration of a pod's service account."""
    try:
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
        ca = (account / "ca.crt").read_bytes()
        namespace = (account / "namespace").read_text().strip()
    except (KeyError, OSError) as error:
        raise SettingsError(f"this process does not run in a pod: {error}") from error
    where = f"[{host}]" if ":" in host else host
    return ClusterConfig(
        name="in-cluster",
        server=f"https://{where}:{port}",
        namespace=namespace,
        ca=ca,
        token_file=account / "token",
    )


def from_files(paths: Sequence[Path], *, context: str | None = None) -> ClusterConfig:
    """Return one context of merged kubeconfig files; the current one by default."""
    found = [path for path in paths if path.exists()]
    if not found:
        raise SettingsError(f"no kubeconfig: {', '.join(map(str, paths))} (set KUBECONFIG)")
    read = [(path, _read(path)) for path in found]
    named = context or next((c for _, d in read if (c := d.get("current-context"))), None)
    if not named:
        raise SettingsError(f"{found[0]} has no current-context: name one")
    chosen, _ = _named(read, "contexts", "context", named)
    cluster, at = _named(read, "clusters", "cluster", chosen.get("cluster", ""))
    user, user_at = _named(read, "users", "user", chosen["user"]) if "user" in chosen else ({}, at)
    if not cluster.get("server"):
        raise SettingsError(f"cluster {chosen.get('cluster')} of {at} names no server")
    return ClusterConfig(
        name=named,
        server=str(cluster["server"]).rstrip("/"),
        namespace=chosen.get("namespace") or "default",
        ca=_bytes(cluster, "certificate-authority", at),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name"),
        proxy_url=cluster.get("proxy-url"),
        client_certificate=_bytes(user, "client-certificate", user_at),
        client_key=_bytes(user, "client-key", user_at),
        token=user.get("token"),
        token_file=_beside(user_at, user.get("tokenFile")),
        basic=(user["username"], user.get("password", "")) if user.get("username") else None,
        exec_plugin=_exec_plugin(user.get("exec")),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path} is not a kubeconfig")
    return document


def _named(
    read: Sequence[tuple[Path, dict[str, Any]]], plural: str, single: str, name: str
) -> tuple[dict[str, Any], Path]:
    for path, document in read:
        for entry in document.get(plural) or ():
            if entry.get("name") == name:
                return entry.get(single) or {}, path
    raise SettingsError(f"no {single} {name!r} in {', '.join(str(path) for path, _ in read)}")


def _bytes(entry: Mapping[str, Any], key: str, at: Path) -> bytes | None:
    """Return what is given inline (base64) or as a file."""
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data)
    path = _beside(at, entry.get(key))
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise SettingsError(f"{at} names {key} {path}: {error}") from error


def _beside(at: Path, name: str | None) -> Path | None:
    return at.parent / name if name else None


def _exec_plugin(entry: Mapping[str, Any] | None) -> ExecPlugin | None:
    if not entry:
        return None
    return ExecPlugin(
        command=entry["command"],
        api_version=entry.get("apiVersion", "client.authentication.k8s.io/v1"),
        arguments=tuple(entry.get("args") or ()),
        environment=tuple((e["name"], e["value"]) for e in entry.get("env") or ()),
        provide_cluster_info=bool(entry.get("provideClusterInfo")),
        install_hint=entry.get("installHint", ""),
    )
