"""The listed rooms, as their owners write them (`rooms/info.<room>`), kept by a watch."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from rallypoint.gateway import calls
from rallypoint.gateway.domain import listing
from rallypoint.internal.v1.events_pb2 import RoomInfo
from rallypoint.kit import subjects
from rallypoint.kit.bus_kv import Kv
from rallypoint.kit.names import RoomId
from rallypoint.v1 import room_pb2

log = logging.getLogger(__name__)


class RoomList:
    """What ListRooms answers from."""

    def __init__(self) -> None:
        self._rooms = listing.Listing()
        self._watchable = listing.Listing()
        self._spectated: dict[str, RoomInfo] = {}

    def list(self, call: calls.Call, request: room_pb2.ListRoomsRequest) -> bytes:
        """A page of the list."""
        rooms = self._watchable if request.spectate else self._rooms
        return rooms.page(request).SerializeToString()

    def spectated(self, room_id: str) -> RoomInfo | None:
        """A room that lets spectators in; also one that is not listed."""
        return self._spectated.get(subjects.info(RoomId(room_id)))

    async def run(self, owners: Kv) -> None:
        """Follow what owners write, for ever."""
        async for entry in owners.watch(subjects.ALL_INFO):
            if entry.value is None:
                self.drop(entry.key)
            elif entry.key:
                self.take(entry.key, entry.value)

    def take(self, key: str, value: bytes) -> None:
        """An owner wrote this of a room."""
        try:
            info = RoomInfo.FromString(value)
        except DecodeError:
            log.error("listing_malformed", extra={"key": key})
            return
        listed = info.visibility == room_pb2.ROOM_VISIBILITY_LISTED
        _keep(self._rooms, key, info, fitting=listed)
        if info.spectators:
            self._spectated[key] = info
        else:
            self._spectated.pop(key, None)
        open_to_all = listed or not info.listing.code  # a queue's room is nobody's secret
        _keep(self._watchable, key, info, fitting=info.spectators > 0 and open_to_all)

    def drop(self, key: str) -> None:
        """A room is gone."""
        self._rooms.drop(key)
        self._watchable.drop(key)
        self._spectated.pop(key, None)


def _keep(rooms: listing.Listing, key: str, info: RoomInfo, *, fitting: bool) -> None:
    """What a list shows of a room may have changed, and whether it shows it."""
    if fitting:
        rooms.put(key, info.listing)
    else:
        rooms.drop(key)
