"""gRPC-Web as a client reads and writes it: bytes in, values out (grpc/grpc doc/PROTOCOL-WEB.md).

A request is one frame in an HTTP/1.1 POST. A response is frames `flag:1 length:4 data`, where flag
bit 7 marks the trailers, which come last and hold the status; an error may stand in the HTTP
headers instead ("trailers only"). Errors are those of `kit.errors`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from rallypoint.kit import errors

TRAILER_FLAG = 0x80
PREFIX_BYTES = 5
MAX_MESSAGE_BYTES = 4 << 20

# grpc/grpc doc/http-grpc-status-mapping.md: what a status of HTTP alone means
_HTTP_CODES = {
    400: errors.Code.INTERNAL,
    401: errors.Code.UNAUTHENTICATED,
    403: errors.Code.PERMISSION_DENIED,
    404: errors.Code.UNIMPLEMENTED,
    429: errors.Code.UNAVAILABLE,
    502: errors.Code.UNAVAILABLE,
    503: errors.Code.UNAVAILABLE,
    504: errors.Code.UNAVAILABLE,
}


def head(host: str, path: str, *, token: str = "", timeout_ms: int = 0) -> bytes:
    """The request head up to the value of content-length: append it, CRLF CRLF and the body."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "content-type: application/grpc-web+proto",
        "x-grpc-web: 1",
    ]
    if token:
        lines.append(f"authorization: Bearer {token}")
    if timeout_ms:
        lines.append(f"grpc-timeout: {timeout_ms}m")
    lines.append("content-length: ")
    return "\r\n".join(lines).encode()


def request(prepared_head: bytes, message: bytes) -> bytes:
    """A whole request of one message."""
    size = len(message)
    return b"%b%d\r\n\r\n\0%b%b" % (
        prepared_head,
        size + PREFIX_BYTES,
        size.to_bytes(4, "big"),
        message,
    )


class Frames:
    """Cuts a response body into frames, however it arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames completed by `data`, as (flag, bytes)."""
        if self._rest:
            data = self._rest + data
        found: list[tuple[int, bytes]] = []
        start, end = 0, len(data)
        while end - start >= PREFIX_BYTES:
            size = int.from_bytes(data[start + 1 : start + PREFIX_BYTES], "big")
            if size > MAX_MESSAGE_BYTES:
                raise errors.Internal("MESSAGE_TOO_LARGE", f"a message of {size} bytes")
            if end - start < PREFIX_BYTES + size:
                break
            body = start + PREFIX_BYTES
            found.append((data[start], data[body : body + size]))
            start = body + size
        self._rest = data[start:] if start < end else b""
        return found


def trailers(block: bytes) -> dict[str, str]:
    """The key-value lines of a trailer frame."""
    found: dict[str, str] = {}
    for line in block.decode("latin-1").split("\r\n"):
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip().lower()] = value.strip()
    return found


def failure(fields: Mapping[str, str]) -> errors.RallypointError | None:
    """The error that trailers (or headers) tell; None for OK; Internal when they tell nothing."""
    status = fields.get("grpc-status", "")
    if not status.isdigit():
        return errors.Internal("STATUS_MISSING", "the answer has no grpc-status")
    if status == "0":
        return None
    details = fields.get("grpc-status-details-bin")
    if details:
        return _from_details(details)
    return errors.from_code(int(status), "UNKNOWN", unquote(fields.get("grpc-message", "")))


def http_failure(status: int) -> errors.RallypointError:
    """The error that an HTTP answer stands for that is not gRPC-Web."""
    code = _HTTP_CODES.get(status, errors.Code.UNKNOWN)
    return errors.from_code(code, f"HTTP_{status}", f"the answer was HTTP {status}, not gRPC-Web")


def header_fields(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header pairs as texts with lower-case names."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def _from_details(details: str) -> errors.RallypointError:
    from rallypoint.kit import status  # protobuf's status types: only errors pay for them

    try:
        return status.from_details(base64.b64decode(details + "=" * (-len(details) % 4)))
    except (binascii.Error, ValueError):
        return errors.Internal("STATUS_MALFORMED", "the status details cannot be decoded")
