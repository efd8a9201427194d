"""What the list says of rooms here that are open, or let spectators in: `info.<room>`.

The room's owner alone writes it. One look at all each half second; what differs is written, under
the fence of `own.<room>`. Nobody else removes a listing while its room lives, whatever pings say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.names import RoomId
from rallypoint.room_state.hosted import HostedRoom
from rallypoint.room_state.recording import Recording
from rallypoint.v1 import room_pb2

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.5


class Listings:
    """Keeps the listings of this node's rooms true."""

    def __init__(self, bus: Bus, rooms: Callable[[], Iterable[HostedRoom]]) -> None:
        self._kv = bus.kv(subjects.OWNERS.name)
        self._rooms = rooms
        self._written: dict[HostedRoom, bytes] = {}

    async def run(self) -> None:
        """Look each half second, for ever; a broker that is away is waited for."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except errors.RallypointError as error:
                logger.info("listing_waits", extra={"reason": str(error)})

    async def look(self) -> None:
        """Write what changed."""
        rooms = [room for room in self._rooms() if room.identity.shown and room.ended is None]
        self._written = {room: self._written[room] for room in rooms if room in self._written}
        for room in rooms:
            data = info(room).SerializeToString(deterministic=True)
            if room.ended is None and self._written.get(room) != data:
                await self._write(room, data)
                self._written[room] = data

    async def _write(self, room: HostedRoom, data: bytes) -> None:
        room_id = RoomId(room.identity.room_id)
        revision = room.identity.own_revision
        fence = self._kv.fence(subjects.own(room_id), revision) if revision else None
        try:
            await self._kv.put(subjects.info(room_id), data, fence=fence)
        except Conflict:
            logger.info("listing_fenced", extra={"room": room_id})


def info(room: HostedRoom) -> events_pb2.RoomInfo:
    """A room as it is now."""
    identity, book = room.identity, room.book
    recording = identity.recording or Recording(max_bytes=0)
    listing = room_pb2.RoomListing(
        room_id=identity.room_id,
        code=identity.code,
        game=identity.game,
        players=book.taken,
        max_players=book.capacity,
        locked=room.state.locked,
        metadata=dict(room.state.metadata),
        create_time=Timestamp(seconds=identity.created_s),
        spectate=recording.spectators > 0,
        spectate_delay_ms=recording.spectate_delay_ms if recording.spectators else 0,
    )
    return events_pb2.RoomInfo(
        listing=listing, visibility=identity.visibility, spectators=recording.spectators
    )
