"""Codes of rooms that players enter by one: `code.<code>` leads to a room, `own.<room>` names it.

A code is good while the room's record names it, so the end of a room ends its code, and a key that
was left over leads nowhere. What is left over is swept: one comparison must have seen it before,
since a code is written a moment before the record that names it.
"""

from __future__ import annotations

from rallypoint.fleet.ownership import Ownership
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, names, subjects
from rallypoint.kit.bus import Conflict
from rallypoint.kit.bus_kv import Kv
from rallypoint.kit.names import RoomId

_TRIES = 8


class Codes:
    """All codes."""

    def __init__(self, kv: Kv, ownership: Ownership) -> None:
        self._kv = kv
        self._ownership = ownership
        self._stray: set[str] = set()

    async def reserve(self, room_id: RoomId) -> str:
        """Return the code that the room's record names, or a new one that no other room has."""
        own = await self._ownership.get(room_id)
        if own is not None and own.code:
            return own.code
        record = events_pb2.CodeRecord(room_id=room_id).SerializeToString()
        for _ in range(_TRIES):
            code = names.new_code()
            try:
                await self._kv.create(subjects.code(code), record)
            except Conflict:
                continue
            return code
        raise errors.Unavailable("CODES_CONTENDED", "no code is free", retry_after_s=1.0)

    async def sweep(self) -> None:
        """Remove keys of rooms that are over, if they were seen so at the last sweep."""
        entries = [
            *await self._kv.entries(subjects.ALL_CODES),
            *await self._kv.entries(subjects.ALL_INFO),
        ]
        if not entries:
            return
        named = set()
        for own in await self._ownership.all():
            named.add(subjects.info(own.room_id))
            if own.code:
                named.add(subjects.code(own.code))
        stray = {entry.key: entry.revision for entry in entries if entry.key not in named}
        for key in stray.keys() & self._stray:
            try:
                await self._kv.purge(key, revision=stray[key])
            except Conflict:
                continue
        self._stray = set(stray)
