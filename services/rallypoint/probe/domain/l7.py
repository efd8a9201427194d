"""The twin of bpf/l7.bpf.c: the events of calls as they lie in its ring."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

ROLES: Final = ("", "client", "server")
TOTALS: Final = ("late", "gaps", "events_lost")
RING_BYTES: Final = 1 << 20
_EVENT: Final = struct.Struct("=QQQIIIHHBBBBI")


class Kind(IntEnum):
    """What an event tells."""

    HEADERS = 1
    END = 2
    GIVEN_UP = 3
    QUERY = 4
    ANSWER = 5


class Frame(IntEnum):
    """Types of frames that matter."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    CONTINUATION = 9


END_HEADERS: Final = 4
PADDED: Final = 8
PRIORITY: Final = 32


class Event(NamedTuple):
    """A piece of a request's headers, the end of a call, or a DNS message."""

    cookie: int
    at_ns: int
    cgroup: int
    stream: int
    number: int
    left: int
    port: int
    kind: Kind
    flags: int
    type: int
    role: str
    block: bytes


def event(raw: bytes) -> Event:
    """Read one."""
    fields = _EVENT.unpack_from(raw)
    cookie, at_ns, cgroup, stream, number, left, port, length, kind, flags, of, role, _ = fields
    block = bytes(raw[_EVENT.size : _EVENT.size + length])
    return Event(
        cookie, at_ns, cgroup, stream, number, left, port, Kind(kind), flags, of, ROLES[role], block
    )
