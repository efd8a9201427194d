"""Where a server is: `host:port`, or a URL of it. A host may be an IPv6 address."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from rallypoint.kit import errors


class Server(NamedTuple):
    """What a URL says of a server."""

    name: str
    """`host:port` as it stands there, for the `host` header."""
    host: str
    port: int
    secure: bool
    """Whether it is spoken to over TLS."""


def joined(host: str, port: int) -> str:
    """Return `host:port` as URLs and gRPC take it: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server(url: str, scheme: str) -> Server:
    """Return the server of a URL of this scheme, or of the same with an s, which is over TLS.

    InvalidArgument when it is neither.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # half a bracket, or a port that is no number up to 65535
        host, port = None, None
    if not host or parts.scheme not in (scheme, f"{scheme}s"):
        raise errors.InvalidArgument("URL_INVALID", f"{url!r} is not a {scheme}:// address")
    secure = parts.scheme != scheme
    return Server(parts.netloc, host, port or (443 if secure else 80), secure)
