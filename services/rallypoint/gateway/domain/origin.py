"""Who may call from a browser: an exact allow-list of origins, and the CORS headers that follow.

An entry is an origin (`https://play.example.com`) or `same-origin`: the page came from the host its
request goes to. A request without `origin` is not from a browser's script and passes; the bearer
token, not the origin, says who calls. Nothing is ever allowed for `*`, and no cookie is used.
"""

from collections.abc import Iterable

SAME_ORIGIN = "same-origin"
PREFLIGHT_MAX_AGE_S = 7200
_REQUEST_HEADERS = (
    b"content-type,authorization,grpc-timeout,grpc-encoding,grpc-accept-encoding,x-grpc-web,"
    b"x-user-agent,traceparent,tracestate"
)
_EXPOSED = "grpc-status,grpc-message,grpc-status-details-bin"


class Origins:
    """The allow-list."""

    def __init__(self, allowed: Iterable[str]) -> None:
        entries = {entry.rstrip("/") for entry in allowed}
        self._same = SAME_ORIGIN in entries
        self._exact = frozenset(entries - {SAME_ORIGIN, "*"})

    def allows(self, origin: str, host: str) -> bool:
        """Tell whether a request with these `origin` and `host` headers may be served."""
        if not origin or origin in self._exact:
            return True
        return self._same and bool(host) and origin.partition("://")[2] == host


def allow_lines(origin: str) -> bytes:
    """Return the CORS header lines of a response to an allowed origin; none without an origin."""
    if not origin:
        return b""
    return (
        f"access-control-allow-origin: {origin}\r\nvary: origin\r\n"
        f"access-control-expose-headers: {_EXPOSED}\r\n"
    ).encode("latin-1")


def preflight_lines(origin: str) -> bytes:
    """Return the CORS header lines that answer a preflight of an allowed origin."""
    return (
        b"access-control-allow-origin: %b\r\nvary: origin\r\n"
        b"access-control-allow-methods: POST\r\naccess-control-allow-headers: %b\r\n"
        b"access-control-max-age: %d\r\n"
        % (origin.encode("latin-1"), _REQUEST_HEADERS, PREFLIGHT_MAX_AGE_S)
    )
