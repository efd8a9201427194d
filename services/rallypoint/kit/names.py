"""Ids and names: distinct types for the type checker, one rule for what may be a name.

Queue, set, game and node names match `[a-z0-9-]{1,32}`, checked where they enter, so that they can
stand in subjects, keys and labels as they are. Ids we make are 128 random bits in
lower-case base32. Codes of rooms are for people: no two of their characters look alike.
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import Final, NewType

from rallypoint.kit import errors

RoomId = NewType("RoomId", str)
PlayerId = NewType("PlayerId", str)
TicketId = NewType("TicketId", str)
MatchId = NewType("MatchId", str)
NodeId = NewType("NodeId", str)
QueueName = NewType("QueueName", str)
GameName = NewType("GameName", str)
SetName = NewType("SetName", str)

CODE_LENGTH: Final = 6
_CODE_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAME = re.compile(r"[a-z0-9-]{1,32}")
_ID = re.compile(r"[a-z0-9-]{1,64}")


def check_name(value: str, what: str) -> str:
    """Return `value` if it may name a queue, set, game or node, else raise NAME_INVALID."""
    if not _NAME.fullmatch(value):
        raise errors.InvalidArgument(
            "NAME_INVALID", f"{what} must match [a-z0-9-]{{1,32}}", metadata={"field": what}
        )
    return value


def check_id(value: str, what: str) -> str:
    """Return `value` if it may be an id (ticket, match, room, player), else raise NAME_INVALID."""
    if not _ID.fullmatch(value):
        raise errors.InvalidArgument(
            "NAME_INVALID", f"{what} must match [a-z0-9-]{{1,64}}", metadata={"field": what}
        )
    return value


def new_id(prefix: str = "") -> str:
    """Return `prefix` and 26 characters of lower-case base32: 128 random bits."""
    return prefix + base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def new_code() -> str:
    """Return a code for a room: one of 729 million."""
    return "".join(secrets.choice(_CODE_ALPHABET) for _ in range(CODE_LENGTH))


def read_code(typed: str) -> str:
    """Return the code that somebody typed; NotFound CODE_UNKNOWN for what cannot be one."""
    code = typed.upper().translate(str.maketrans("", "", " -"))
    if len(code) != CODE_LENGTH or not set(code) <= set(_CODE_ALPHABET):
        raise errors.NotFound("CODE_UNKNOWN", "no room has this code")
    return code
