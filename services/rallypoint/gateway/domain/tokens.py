"""Stream tokens: whom a unary call of a stream speaks for, sealed with the cluster's key.

Any gateway may take a call, so the token itself carries what that gateway must know: room, slot,
generation, player and end of life, under an HMAC that only gateways can make. Layout, big endian:

    version u8 · expires u32 (unix s) · generation u32 · slot u16
    · room_len u8 · room · player_len u8 · player · mac 16 bytes

The mac is HMAC-SHA256 over everything before it, cut to 128 bits. A token that does not open is
answered PERMISSION_DENIED `STREAM_REFUSED` without saying why.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from rallypoint.kit import errors

VERSION = 1
MAC_BYTES = 16
MAX_TOKEN_BYTES = 256
_HEAD = struct.Struct(">BIIHB")


@dataclass(frozen=True, slots=True)
class StreamClaims:
    """What a stream token says; `expires_s` is unix time in whole seconds."""

    room_id: str
    slot: int
    generation: int
    player_id: str
    expires_s: int


def refused() -> errors.PermissionDenied:
    """The one answer to every token that does not open."""
    return errors.PermissionDenied("STREAM_REFUSED", "the stream token opens no stream")


def seal(key: bytes, claims: StreamClaims) -> bytes:
    """The token for these claims; ids longer than 80 bytes raise ValueError."""
    room = claims.room_id.encode()
    player = claims.player_id.encode()
    if len(room) > 80 or len(player) > 80:
        raise ValueError("room and player ids are at most 80 bytes")
    head = _HEAD.pack(VERSION, claims.expires_s, claims.generation, claims.slot, len(room))
    body = b"%b%b%c%b" % (head, room, len(player), player)
    return body + _mac(key, body)


def unseal(key: bytes, token: bytes, *, now_s: float) -> StreamClaims:
    """The claims of a genuine, living token; else PermissionDenied `STREAM_REFUSED`."""
    if not _HEAD.size + MAC_BYTES < len(token) <= MAX_TOKEN_BYTES:
        raise refused()
    body, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise refused()
    claims = _parse(body)
    if claims.expires_s <= now_s:
        raise refused()
    return claims


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:MAC_BYTES]


def _parse(body: bytes) -> StreamClaims:
    # Only genuine bytes come here, so the layout can be trusted once the version is ours.
    version, expires_s, generation, slot, room_size = _HEAD.unpack_from(body)
    if version != VERSION:
        raise refused()
    room_end = _HEAD.size + room_size
    player_end = room_end + 1 + body[room_end]
    return StreamClaims(
        room_id=body[_HEAD.size : room_end].decode(),
        slot=slot,
        generation=generation,
        player_id=body[room_end + 1 : player_end].decode(),
        expires_s=expires_s,
    )
