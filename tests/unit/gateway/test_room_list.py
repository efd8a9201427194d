"""What the lists say of a room follows what its owner wrote last."""

import pytest

from rallypoint.gateway import calls
from rallypoint.gateway.rooms_list import RoomList
from rallypoint.internal.v1.events_pb2 import RoomInfo
from rallypoint.v1 import room_pb2
from rallypoint.v1.room_pb2 import ROOM_VISIBILITY_LISTED as LISTED
from rallypoint.v1.room_pb2 import ROOM_VISIBILITY_PRIVATE as PRIVATE

KEY = "info.room"
CALL = calls.Call("/rallypoint.v1.RoomService/ListRooms", {}, "127.0.0.1", 0.0)
PUBLIC_ROOM = RoomInfo(visibility=LISTED, spectators=5)
QUEUE_ROOM = RoomInfo(spectators=5)
"""One without a code."""


def seen(rooms: RoomList) -> list[bool]:
    """Whether the room is in the list of rooms, in that for spectators, and lets them in."""
    pages = [
        room_pb2.ListRoomsResponse.FromString(
            rooms.list(CALL, room_pb2.ListRoomsRequest(spectate=spectate))
        )
        for spectate in (False, True)
    ]
    return [*(bool(page.rooms) for page in pages), rooms.spectated("room") is not None]


@pytest.mark.parametrize(
    ("before", "after", "then"),
    [
        (PUBLIC_ROOM, RoomInfo(visibility=LISTED), [True, False, False]),
        (PUBLIC_ROOM, RoomInfo(visibility=PRIVATE, spectators=5), [False, False, True]),
        (QUEUE_ROOM, RoomInfo(), [False, False, False]),
        (RoomInfo(visibility=LISTED), PUBLIC_ROOM, [True, True, True]),
    ],
    ids=["no spectators any more", "private now", "of a queue", "spectators from now on"],
)
def test_room_is_listed_as_its_owner_wrote_last(
    before: RoomInfo, after: RoomInfo, then: list[bool]
) -> None:
    rooms = RoomList()
    for info in (before, after):
        info.listing.room_id = "room"
        info.listing.code = "ABCDEF" if info.visibility else ""
        rooms.take(KEY, info.SerializeToString())
    assert seen(rooms) == then
    rooms.drop(KEY)
    assert seen(rooms) == [False, False, False]
