"""Logins and TLS of NATS, Redis and internal gRPC: settings, and what start-up makes of them.

Without any of these settings everything is plaintext without login. A login is a user and a
password. A broker speaks TLS when its URL says so (`tls://`, `rediss://`), and then never less; the
CA is that of the file, else those of the system; certificate and key make us known to the broker.
Internal gRPC speaks mutual TLS when CA, certificate and key are set: servers refuse a caller, and
channels a server, without a certificate of that CA. Files are read at start: restart to change
them. Passwords and keys are in no text that this module makes, and in no repr.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rallypoint.kit import settings

_SCHEMES = {"nats": ("nats", "tls"), "redis": ("redis", "rediss")}
"""Of each broker's URL: without and with TLS."""


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """Who we are to the brokers and to each other. All files are PEM."""

    nats_user: str = ""
    nats_password: str = field(default="", repr=False)
    nats_ca_file: Path | None = None
    """Who may vouch for NATS; absent: the system's CAs. Needs a URL with tls://."""
    nats_cert_file: Path | None = None
    nats_key_file: Path | None = None
    redis_user: str = ""
    """The ACL user; empty with a password: the default user."""
    redis_password: str = field(default="", repr=False)
    redis_ca_file: Path | None = None
    """Who may vouch for Redis; absent: the system's CAs. Needs a URL with rediss://."""
    redis_cert_file: Path | None = None
    redis_key_file: Path | None = None
    grpc_ca_file: Path | None = None
    """Who vouches for our own services, in both directions. All three of these, or none."""
    grpc_cert_file: Path | None = None
    grpc_key_file: Path | None = None
    grpc_server_name: str = ""
    """The name in every service's certificate; empty: the host of the address called."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of a TLS client, known to be good when the process started."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the server. Raises OSError (SSLError) for a bad file."""
        made = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            # An empty password, or OpenSSL would ask the terminal for that of an encrypted key.
            made.load_cert_chain(self.cert_file, self.key_file, password="")
        return made


@dataclass(frozen=True, slots=True)
class Access:
    """How to open a broker: with a login unless both parts are empty, over TLS if it is set."""

    user: str = ""
    password: str = field(default="", repr=False)
    tls: TlsFiles | None = None


OPEN = Access()
"""No login, no TLS."""


@dataclass(frozen=True, slots=True)
class MutualTls:
    """What internal servers and channels prove and check, PEM."""

    ca: bytes = field(repr=False)
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)
    serving: ssl.SSLContext = field(repr=False)
    """The same for servers that are not gRPC's: refuses a caller without a certificate."""
    calling: ssl.SSLContext = field(repr=False)
    """The same for connections that are not gRPC's."""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """What a process needs to open its brokers and to call its peers."""

    nats: Access = OPEN
    redis: Access = OPEN
    grpc: MutualTls | None = None


def load(wanted: SecuritySettings, *, nats_url: str, redis_url: str) -> Security:
    """Read all files; SettingsError names the variable that cannot be used, and why."""
    return Security(
        nats=Access(
            wanted.nats_user,
            wanted.nats_password,
            _client("nats", nats_url.split(","), wanted),
        ),
        redis=Access(
            wanted.redis_user,
            wanted.redis_password,
            _client("redis", [redis_url], wanted),
        ),
        grpc=_mutual(wanted),
    )


def shown(url: str) -> str:
    """Return a URL, or several with commas between, without what is secret in it: for messages."""
    return ",".join(_without_login(part) for part in url.split(","))


def _without_login(url: str) -> str:
    before, mark, rest = url.rpartition("@")
    scheme, _, _ = before.partition("://")
    return f"{scheme}://{rest}" if mark else url


def _client(broker: str, urls: list[str], wanted: SecuritySettings) -> TlsFiles | None:
    plain, secure = _SCHEMES[broker]
    url_name, files = _variable(f"{broker}_url"), _files(broker, wanted)
    schemes = {_scheme(url) for url in urls}
    if not schemes <= {plain, secure}:
        given = shown(",".join(urls))
        raise settings.SettingsError(
            f"{url_name} is {given!r}: set it to {plain}://host:port or {secure}://host:port"
        )
    if secure not in schemes:
        for variable, path in files.items():
            if path is not None:
                raise settings.SettingsError(
                    f"{variable} is set but {url_name} is plaintext: let it start with {secure}://"
                )
        return None
    _check(files)
    return TlsFiles(*files.values())


def _scheme(url: str) -> str:
    """Return the scheme of a URL that has a host and, if any, a port that is one; else nothing."""
    try:
        parts = urlsplit(url)
        return parts.scheme if parts.hostname and parts.port != 0 else ""
    except ValueError:
        return ""


def _mutual(wanted: SecuritySettings) -> MutualTls | None:
    files = _files("grpc", wanted)
    present = [variable for variable, path in files.items() if path is not None]
    if not present:
        return None
    for variable, path in files.items():
        if path is None:
            raise settings.SettingsError(
                f"{variable} is not set but {present[0]} is: set all of {', '.join(files)}"
            )
    _check(files)
    ca, cert, key = (_read(variable, path) for variable, path in files.items() if path)
    return MutualTls(
        ca=ca,
        cert=cert,
        key=key,
        serving=_serving(TlsFiles(*files.values())),
        calling=TlsFiles(*files.values()).context(),
        server_name=wanted.grpc_server_name,
    )


def _serving(files: TlsFiles) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca_file)
    made.verify_mode = ssl.CERT_REQUIRED
    assert files.cert_file is not None
    made.load_cert_chain(files.cert_file, files.key_file, password="")
    return made


def _files(peer: str, wanted: SecuritySettings) -> dict[str, Path | None]:
    """Return CA, certificate and key of a peer by variable, in this order."""
    fields = [f"{peer}_{what}_file" for what in ("ca", "cert", "key")]
    return {_variable(name): getattr(wanted, name) for name in fields}


def _check(files: Mapping[str, Path | None]) -> None:
    """Try all files, so that a bad one is named now and not by a library at the first call."""
    (ca_name, ca), (cert_name, cert), (key_name, key) = files.items()
    for variable, path in files.items():
        if path is not None:
            _read(variable, path)
    if (cert is None) != (key is None):
        missing, present = (key_name, cert_name) if key is None else (cert_name, key_name)
        raise settings.SettingsError(f"{missing} is not set but {present} is: set both")
    try:
        TlsFiles(ca_file=ca).context()
    except OSError as error:
        raise settings.SettingsError(f"{ca_name} is {ca}, which holds no certificate") from error
    try:
        TlsFiles(cert_file=cert, key_file=key).context()
    except OSError as error:
        raise settings.SettingsError(
            f"{cert_name} is {cert} and {key_name} is {key}: they are no pair of an "
            "unencrypted key and its certificate"
        ) from error


def _read(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise settings.SettingsError(f"{variable} is {path}: cannot read it ({reason})") from error


def _variable(name: str) -> str:
    return settings.PREFIX + name.upper()
