"""The opening of a WebSocket (RFC 6455 §4.2): an HTTP request in, the 101 or a refusal out."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from rallypoint.gateway.domain.http_request import Head, Refusal
from rallypoint.kit import errors

PATH = "/rallypoint.v1.websocket"
SUBPROTOCOL = "rallypoint.v1"
VERSION = "13"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16


def accept_key(key: str) -> bytes:
    """What proves that the request was understood as a handshake."""
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest())


def answer(head: Head) -> bytes:
    """The response that makes the connection a WebSocket; Refusal when the request is not one."""
    headers = head.headers
    if not head.upgrade or head.method != "GET":
        plain = errors.FailedPrecondition("UPGRADE_REQUIRED", "only a WebSocket is opened here")
        raise Refusal(426, plain)
    if headers.get("sec-websocket-version") != VERSION:
        other = errors.FailedPrecondition("WEBSOCKET_VERSION", "sec-websocket-version must be 13")
        raise Refusal(426, other)
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise Refusal(400, errors.InvalidArgument("HANDSHAKE_MALFORMED", "sec-websocket-key"))
    if SUBPROTOCOL not in _items(headers, "sec-websocket-protocol"):
        unknown = errors.InvalidArgument("SUBPROTOCOL", f"sec-websocket-protocol: {SUBPROTOCOL}")
        raise Refusal(400, unknown)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\nsec-websocket-protocol: %b\r\n\r\n"
    ) % (accept_key(key), SUBPROTOCOL.encode())


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _items(headers: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in headers.get(name, "").split(",")]
