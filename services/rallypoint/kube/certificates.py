"""Certificates for webhooks: made here, shared by all replicas through a Secret, renewed in time.

Whoever comes first creates the Secret, all others read it; renewal is a put with the version that
was read, so two that renew at once end with one certificate. The CA lives as long as its Secret and
signs every renewal: what clients trust changes only when the Secret is deleted.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.objects import ObjectMeta, Secret

CA_DAYS, LEAF_DAYS = 3650, 90
_KEYS = ("ca.crt", "ca.key", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Material:
    """A CA and what it signed, as PEM."""

    ca: bytes
    ca_key: bytes
    certificate: bytes
    key: bytes

    def renew_after(self) -> datetime.datetime:
        """Return when two thirds of its time are over."""
        leaf = x509.load_pem_x509_certificate(self.certificate)
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return begin + (end - begin) * 2 / 3

    def serves(self, hosts: Sequence[str]) -> bool:
        """Tell whether the certificate names all of these hosts."""
        leaf = x509.load_pem_x509_certificate(self.certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(hosts) <= set(names.value.get_values_for_type(x509.DNSName))

    def as_data(self) -> dict[str, bytes]:
        """Return it as the data of a Secret."""
        parts = (self.ca, self.ca_key, self.certificate, self.key)
        return dict(zip(_KEYS, parts, strict=True))


def service_hosts(service: str, namespace: str) -> tuple[str, ...]:
    """Return the names under which the API server reaches a Service."""
    return (f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local")


def make(
    hosts: Sequence[str], *, now: datetime.datetime, before: Material | None = None
) -> Material:
    """Make a certificate, signed by the CA of `before` or a new one."""
    if before is None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        name = _name("webhook CA")
        usage = x509.BasicConstraints(ca=True, path_length=0)
        unsigned = _unsigned(name, name, ca_key, now, CA_DAYS).add_extension(usage, critical=True)
        ca = unsigned.sign(ca_key, hashes.SHA256())
    else:
        ca = x509.load_pem_x509_certificate(before.ca)
        loaded = serialization.load_pem_private_key(before.ca_key, password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        ca_key = loaded
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    leaf = (
        _unsigned(_name("webhook"), ca.subject, key, now, LEAF_DAYS)
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Material(_pem(ca), _key_pem(ca_key), _pem(leaf), _key_pem(key))


class Certificates:
    """The certificate of a process's webhooks, kept in a Secret."""

    def __init__(
        self, api: Api[Secret], name: str, *, namespace: str, hosts: Sequence[str]
    ) -> None:
        self._api, self._name, self._namespace, self._hosts = api, name, namespace, hosts
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._material: Material | None = None

    @property
    def ca(self) -> bytes:
        """What goes into every caBundle."""
        assert self._material is not None, "ensure() comes first"
        return self._material.ca

    async def ensure(self, now: datetime.datetime) -> Material:
        """Create, read or renew what the Secret holds, and serve with it from now on.

        Call it at the start and once an hour: new handshakes use a renewed certificate at once.
        """
        while True:
            try:
                material = await self._current(now)
            except (errors.Conflict, errors.AlreadyExists):
                continue  # another replica was faster: read what it wrote
            if material != self._material:
                _load(self.context, material)
                self._material = material
            return material

    async def _current(self, now: datetime.datetime) -> Material:
        try:
            secret = await self._api.get(self._name, namespace=self._namespace)
        except errors.NotFound:
            made = make(self._hosts, now=now)
            meta = ObjectMeta(name=self._name, namespace=self._namespace)
            await self._api.create(Secret(metadata=meta, data=made.as_data()))
            return made
        held = _read(secret)
        if held is not None and held.renew_after() > now and held.serves(self._hosts):
            return held
        made = make(self._hosts, now=now, before=held)
        await self._api.replace(msgspec.structs.replace(secret, data=made.as_data()))
        return made


def _read(secret: Secret) -> Material | None:
    if not all(key in secret.data for key in _KEYS):
        return None
    return Material(*(secret.data[key] for key in _KEYS))


def _unsigned(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ: what was made just now must be valid everywhere.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)


def _load(context: ssl.SSLContext, material: Material) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.touch(mode=0o600)
        path.write_bytes(material.certificate + material.key)
        context.load_cert_chain(path)
