"""A certificate authority of a test, and certificates for this machine's loopback."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.now(datetime.UTC)
_HOUR = datetime.timedelta(hours=1)


_SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a certificate and its key."""

    cert_file: Path
    key_file: Path


class Authority:
    """Makes certificates that only those who trust `ca_file` accept."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        made = (
            self._builder(self._name, self._key)
            .add_extension(constraints, critical=True)
            .add_extension(_SIGNS, critical=True)
        )
        self.ca_file = directory / f"{name}.pem"
        self.ca_file.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def issue(
        self, name: str, *, hosts: tuple[str, ...] = ("localhost",), organization: str = ""
    ) -> Pair:
        """Return a certificate of a server or a client.

        It is for `hosts`, names and addresses, and for 127.0.0.1 when localhost is among them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        subject = x509.Name(names)
        alternatives = [_alternative(host) for host in hosts]
        if "localhost" in hosts:
            alternatives.append(_alternative("127.0.0.1"))
        made = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName(alternatives), critical=False
        )
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.cert_file.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))
        pair.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        # Python 3.13 accepts no certificate that does not name its own key and its issuer's.
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .add_extension(own, critical=False)
            .add_extension(issuers, critical=False)
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - _HOUR)
            .not_valid_after(_NOW + 24 * _HOUR)
        )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
