"""A watch, line by line: what each line means for where to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from rallypoint.kube import objects


class Line(msgspec.Struct, frozen=True):
    """One line of a watch; the object waits to be decoded by whoever knows its type."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


class _Versioned(msgspec.Struct, frozen=True):
    metadata: objects.ListMeta = objects.ListMeta()


_LINE = msgspec.json.Decoder(Line)
_VERSIONED = msgspec.json.Decoder(_Versioned)


def parse(line: bytes) -> Line:
    """Return a line; msgspec's error when it is none, as one cut in its middle."""
    return _LINE.decode(line)


def version(raw: bytes | msgspec.Raw) -> str:
    """Return the resource version of any object."""
    return _VERSIONED.decode(raw).metadata.resource_version


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a reflector has done so far."""

    synced: bool
    version: str
    lists: int
    watches: int
    events: int
    stalls: int
    expired: int
    unreadable: int
