"""The list of rooms: filters, order, pages."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.gateway.domain import listing
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2


def room(number: int, **fields: object) -> room_pb2.RoomListing:
    made = Timestamp(seconds=1000 - number // 2)
    values = {"game": "skirmish", "players": 1, "max_players": 4, **fields}
    return room_pb2.RoomListing(room_id=f"r{number:03}", create_time=made, **values)  # type: ignore[arg-type]


def found(rooms: list[room_pb2.RoomListing], **wish: object) -> list[str]:
    request = room_pb2.ListRoomsRequest(**wish)  # type: ignore[arg-type]
    return [room.room_id for room in listing.page(rooms, request).rooms]


def test_filters_keep_what_fits_all_of_them() -> None:
    rooms = [
        room(0, game="tictactoe"),
        room(1, players=4),
        room(2, locked=True),
        room(3, metadata={"map": "ice", "mode": "ffa"}),
    ]
    assert found(rooms, game="tictactoe") == ["r000"]
    assert found(rooms, has_free_seats=True) == ["r000", "r002", "r003"]
    assert found(rooms, not_locked=True) == ["r000", "r001", "r003"]
    assert found(rooms, metadata={"map": "ice"}) == ["r003"]
    assert found(rooms, metadata={"map": "ice", "mode": "duel"}) == []


def test_pages_show_every_room_once_though_rooms_come_and_go() -> None:
    rooms = [room(number) for number in range(250)]
    seen: list[str] = []
    token = ""
    while True:
        page = listing.page(rooms, room_pb2.ListRoomsRequest(page_size=100, page_token=token))
        seen += [room.room_id for room in page.rooms]
        token = page.next_page_token
        rooms = rooms[10:]  # rooms that were shown have ended meanwhile
        if not token:
            break
    assert seen == [f"r{number:03}" for number in range(250)]


def test_page_token_that_is_none_is_refused() -> None:
    for token in ("x", "!!!!", "YWJj"):
        with pytest.raises(errors.InvalidArgument, match="PAGE_TOKEN_INVALID"):
            listing.page([], room_pb2.ListRoomsRequest(page_token=token))
