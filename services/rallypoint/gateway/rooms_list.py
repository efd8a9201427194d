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

    def __init__(self, owners: Kv) -> None:
        self._owners = owners
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

    async def run(self) -> None:
        """Follow what owners write, for ever."""
        async for entry in self._owners.watch(subjects.ALL_INFO):
            if entry.value is None:
                self._drop(entry.key)
            elif entry.key:
                self._take(entry.key, entry.value)

    def _take(self, key: str, value: bytes) -> None:
        try:
            info = RoomInfo.FromString(value)
        except DecodeError:
            log.error("listing_malformed", extra={"key": key})
            return
        listed = info.visibility == room_pb2.ROOM_VISIBILITY_LISTED
        if listed:
            self._rooms.put(key, info.listing)
        else:
            self._rooms.drop(key)
        if info.spectators:
            self._spectated[key] = info
            if listed or not info.listing.code:  # a queue's room is nobody's secret
                self._watchable.put(key, info.listing)

    def _drop(self, key: str) -> None:
        self._rooms.drop(key)
        self._watchable.drop(key)
        self._spectated.pop(key, None)
