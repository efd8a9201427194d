"""Who a caller is: stable player ids from credentials, clean display names, client versions.

A guest's player id is a hash of the device secret (16 to 64 random bytes), so it needs no storage
and survives everything; a studio player's is a hash of issuer and subject. Both are BLAKE2b-128 in
lower-case base32 without padding, told apart by their first letter.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from rallypoint.kit import errors, text

MIN_SECRET_BYTES = 16
MAX_SECRET_BYTES = 64
MAX_NAME_CHARACTERS = 24
MAX_BUILD_CHARACTERS = 32
PROTOCOL = 1
_ADJECTIVES = (
    "Amber", "Bold", "Brave", "Bright", "Calm", "Clever", "Cosmic", "Daring",
    "Eager", "Fabled", "Gentle", "Golden", "Hidden", "Jolly", "Keen", "Lucky",
    "Mighty", "Nimble", "Noble", "Polar", "Quick", "Quiet", "Rapid", "Royal",
    "Silver", "Sly", "Solar", "Steady", "Swift", "Tidy", "Vivid", "Wild",
)  # fmt: skip
_ANIMALS = (
    "Badger", "Bear", "Crane", "Crow", "Deer", "Falcon", "Ferret", "Finch",
    "Fox", "Gecko", "Hare", "Hawk", "Heron", "Ibex", "Koala", "Lark",
    "Lynx", "Marten", "Mole", "Newt", "Orca", "Otter", "Owl", "Panda",
    "Puffin", "Raven", "Seal", "Stoat", "Swan", "Tiger", "Wolf", "Wren",
)  # fmt: skip
_BUILD = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*")


def guest_id(device_secret: bytes) -> str:
    """The player of a device; InvalidArgument `SECRET_INVALID` outside 16 to 64 bytes."""
    if not MIN_SECRET_BYTES <= len(device_secret) <= MAX_SECRET_BYTES:
        raise errors.InvalidArgument("SECRET_INVALID", "a device secret is 16 to 64 bytes")
    return "g" + _digest(b"guest", device_secret)


def studio_id(issuer: str, subject: str) -> str:
    """The player of a studio's identity."""
    return "s" + _digest(b"studio", issuer.encode() + b"\0" + subject.encode())


def clean_name(wish: str, player_id: str) -> str:
    """What others see: readable, one line, at most 24 characters; made up from the id if empty.

    InvalidArgument `NAME_TOO_LONG` for a wish no honest client sends.
    """
    if len(wish) > 4 * MAX_NAME_CHARACTERS:
        raise errors.InvalidArgument("NAME_TOO_LONG", "a display name is at most 24 characters")
    return text.one_line(wish, MAX_NAME_CHARACTERS) or made_up_name(player_id)


def made_up_name(player_id: str) -> str:
    """A friendly name that stays the same for a player."""
    digest = hashlib.blake2b(player_id.encode(), digest_size=4).digest()
    adjective = _ADJECTIVES[digest[0] % len(_ADJECTIVES)]
    return f"{adjective} {_ANIMALS[digest[1] % len(_ANIMALS)]} {digest[2] % 90 + 10}"


def check_client(*, game: str, build: str, protocol: int, oldest: Mapping[str, str]) -> None:
    """Refuse clients that are too old: FailedPrecondition `CLIENT_OUTDATED`.

    `oldest` maps a game to the oldest build it still takes. A protocol newer than ours is
    refused as well (`PROTOCOL_UNKNOWN`): this server could not speak it.
    """
    if build and (len(build) > MAX_BUILD_CHARACTERS or not _BUILD.fullmatch(build)):
        raise errors.InvalidArgument("BUILD_INVALID", "a build looks like 1.4.0")
    if protocol > PROTOCOL:
        raise errors.FailedPrecondition("PROTOCOL_UNKNOWN", f"this server speaks {PROTOCOL}")
    if protocol < PROTOCOL:
        raise errors.FailedPrecondition("CLIENT_OUTDATED", f"protocol {PROTOCOL} is needed")
    least = oldest.get(game)
    if least is not None and _version(build) < _version(least):
        raise errors.FailedPrecondition("CLIENT_OUTDATED", f"build {least} or newer is needed")


def _version(build: str) -> tuple[int, ...]:
    """Numbers of the leading dotted part: 1.10.0-rc1 → (1, 10, 0)."""
    head = re.match(r"\d+(\.\d+)*", build)
    return tuple(int(part) for part in head.group().split(".")) if head else ()


def _digest(kind: bytes, data: bytes) -> str:
    digest = hashlib.blake2b(data, digest_size=16, person=b"rallypoint/" + kind[:5]).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()
