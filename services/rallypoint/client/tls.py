"""Whom a client believes over TLS: who the system's CAs vouch for, or those of SSL_CERT_FILE."""

from __future__ import annotations

import functools
import os
import ssl


def context(*, secure: bool) -> ssl.SSLContext | None:
    """What connections to a server are made with; None for plain TCP."""
    return _made(os.environ.get("SSL_CERT_FILE", "")) if secure else None


@functools.cache
def _made(_: str) -> ssl.SSLContext:
    """Reading the CAs takes some 10 ms, and a swarm has hundreds of clients."""
    return ssl.create_default_context()


def roots() -> bytes | None:
    """The same CAs for gRPC, which has its own besides; None: those."""
    path = os.environ.get("SSL_CERT_FILE")
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()
