"""Brokers of somebody else, in a namespace of their own: TLS by a private CA, users, passwords."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.kube import rights
from tests.kube.chart_stack import Release
from tests.support import images
from tests.support.certificates import Authority, Pair

USER: Final = "game"
CERTIFICATES: Final = "/etc/certificates"
PORTS: Final = {"nats": 4222, "redis": 6380}
NATS: Final = f"""
port: {PORTS["nats"]}
jetstream {{ store_dir: /data }}
authorization {{ user: {USER}, password: %s }}
tls {{
  cert_file: {CERTIFICATES}/tls.crt, key_file: {CERTIFICATES}/tls.key
  ca_file: {CERTIFICATES}/ca.crt, verify: true
}}
"""
"""Asks its clients for certificates, as does Redis."""
REDIS: Final = f"""
port 0
tls-port {PORTS["redis"]}
tls-cert-file {CERTIFICATES}/tls.crt
tls-key-file {CERTIFICATES}/tls.key
tls-ca-cert-file {CERTIFICATES}/ca.crt
tls-auth-clients yes
dir /data
user default off
user {USER} on >%s ~* &* +@all
"""
VALUES: Final = (
    "secrets.existing=my-keys",
    "tls.mode=existing",
    "tls.existing=my-certificates",
    "nats.bundled=false",
    f"nats.external.user={USER}",
    "nats.external.replicas=1",
    "nats.external.caSecret=brokers-ca",
    "nats.external.certSecret=game",
    "redis.bundled=false",
    f"redis.external.user={USER}",
    "redis.external.caSecret=brokers-ca",
    "redis.external.certSecret=game",
)


def prepare(release: Release, folder: Path) -> tuple[str, ...]:
    """Start the brokers, make the Secrets that their users are told of; returns the values."""
    where = release.measured
    passwords = {name: secrets.token_urlsafe(12) for name in PORTS}
    theirs, ours = Authority(folder, "brokers"), Authority(folder, "services")
    made = _objects("nats", _issued(theirs, f"nats.{where}"), NATS % f'"{passwords["nats"]}"')
    made += _objects("redis", _issued(theirs, f"redis.{where}"), REDIS % passwords["redis"])
    release.server.does("-n", where, "create", "-f", "-", stdin=rights.listed(made))
    given = [
        _secret("brokers-ca", {"ca.crt": theirs.ca_file.read_bytes()}),
        _secret("game", _issued(theirs, USER)),
        _secret("my-certificates", _issued(ours, "rallypoint")),
        _secret("my-keys", _keys(passwords)),
    ]
    release.kubectl("create", "-f", "-", stdin=rights.listed(given))
    urls = {name: f"{name}.{where}:{port}" for name, port in PORTS.items()}
    return (
        *VALUES,
        f"nats.external.url=tls://{urls['nats']}",
        f"redis.external.url=rediss://{urls['redis']}/0",
    )


def _keys(passwords: Mapping[str, str]) -> dict[str, bytes]:
    """What docs/kubernetes.md asks for in `secrets.existing`."""
    signing = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "cluster-key": secrets.token_hex(32).encode(),
        "signing-key.pem": signing,
        "admin-token": secrets.token_urlsafe(30).encode(),
        **{f"{name}-password": password.encode() for name, password in passwords.items()},
    }


def _issued(authority: Authority, name: str) -> dict[str, bytes]:
    """A certificate, as Secrets of type kubernetes.io/tls have it."""
    pair: Pair = authority.issue(name, hosts=(name,))
    return {
        "ca.crt": authority.ca_file.read_bytes(),
        "tls.crt": pair.cert_file.read_bytes(),
        "tls.key": pair.key_file.read_bytes(),
    }


def _secret(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    data = {key: base64.b64encode(content).decode() for key, content in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _objects(name: str, files: Mapping[str, bytes], configuration: str) -> list[dict[str, Any]]:
    """A broker's pod, its Service, and its files."""
    labels = {"broker": name}
    ports = [{"port": PORTS[name]}]
    service = {"selector": labels, "ports": ports}
    return [
        _secret(name, {**files, "configuration": configuration.encode()}),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": _pod(name),
        },
    ]


def _pod(name: str) -> dict[str, Any]:
    image = next(one.reference for one in images.IMAGES if one.name == name)
    configured = f"{CERTIFICATES}/configuration"
    command = {"nats": ["/nats-server", "-c", configured], "redis": ["redis-server", configured]}
    container = {
        "name": name,
        "image": image,
        "command": command[name],
        "volumeMounts": [
            {"name": "files", "mountPath": CERTIFICATES},
            {"name": "data", "mountPath": "/data"},
        ],
        "readinessProbe": {"tcpSocket": {"port": PORTS[name]}, "periodSeconds": 1},
    }
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": 65532, "fsGroup": 65532},
        "containers": [container],
        "volumes": [
            {"name": "files", "secret": {"secretName": name}},
            {"name": "data", "emptyDir": {}},
        ],
    }
