"""The list of rooms: filters, order, pages."""

import random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.gateway.domain import listing
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2


def room(number: int, **fields: object) -> room_pb2.RoomListing:
    made = Timestamp(seconds=1000 - number // 2)
    values = {"game": "skirmish", "players": 1, "max_players": 4, **fields}
    return room_pb2.RoomListing(room_id=f"r{number:03}", create_time=made, **values)  # type: ignore[arg-type]


def listed(rooms: list[room_pb2.RoomListing]) -> listing.Listing:
    shown = listing.Listing()
    for room in random.sample(rooms, len(rooms)):
        shown.put(f"info.{room.room_id}", room)
    return shown


def found(rooms: list[room_pb2.RoomListing], **wish: object) -> list[str]:
    request = room_pb2.ListRoomsRequest(**wish)  # type: ignore[arg-type]
    return [room.room_id for room in listed(rooms).page(request).rooms]


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
    shown = listed(rooms)
    seen: list[str] = []
    token = ""
    while True:
        page = shown.page(room_pb2.ListRoomsRequest(page_size=100, page_token=token))
        seen += [room.room_id for room in page.rooms]
        token = page.next_page_token
        for ended in rooms[:10]:  # they were shown
            shown.drop(f"info.{ended.room_id}")
        rooms = rooms[10:]
        if not token:
            break
    assert seen == [f"r{number:03}" for number in range(250)]


def test_page_token_that_is_none_is_refused() -> None:
    for token in ("x", "!!!!", "YWJj"):
        with pytest.raises(errors.InvalidArgument, match="PAGE_TOKEN_INVALID"):
            listing.Listing().page(room_pb2.ListRoomsRequest(page_token=token))


def test_call_looks_at_so_many_rooms_and_no_more() -> None:
    rooms = [room(number, locked=number != 2500) for number in range(3000)]
    shown, token = listed(rooms), ""
    pages: list[list[str]] = []
    while not pages or token:
        request = room_pb2.ListRoomsRequest(not_locked=True, page_token=token)
        page = shown.page(request)
        pages.append([room.room_id for room in page.rooms])
        token = page.next_page_token
    assert pages == [[], [], ["r2500"]]


def test_list_in_order_is_that_of_a_sort_whatever_happens() -> None:
    dice = random.Random(7)
    shown = listing.Listing()
    model: dict[str, room_pb2.RoomListing] = {}
    for _ in range(2000):
        made = room(dice.randrange(60), game=dice.choice(["skirmish", "tictactoe"]))
        if dice.random() < 0.4:
            shown.drop(made.room_id)
            model.pop(made.room_id, None)
        else:
            shown.put(made.room_id, made)
            model[made.room_id] = made
        for game in ("", "skirmish"):
            page = shown.page(room_pb2.ListRoomsRequest(game=game, page_size=100))
            wanted = [room for room in model.values() if game in ("", room.game)]
            wanted.sort(key=lambda room: (-room.create_time.seconds, room.room_id))
            assert list(page.rooms) == wanted
