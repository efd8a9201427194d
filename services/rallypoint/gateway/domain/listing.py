"""Pages of the list of rooms: filters, order, tokens. Newest first, then by id."""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Iterable

from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

DEFAULT_PAGE = 50
MAX_PAGE = 100
Place = tuple[int, str]
"""Where a room stands in the list."""


def page(
    rooms: Iterable[room_pb2.RoomListing], request: room_pb2.ListRoomsRequest
) -> room_pb2.ListRoomsResponse:
    """The page that a request asks for."""
    size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
    found = sorted((room for room in rooms if _fits(room, request)), key=_place)
    if request.page_token:
        found = found[bisect.bisect(found, _read(request.page_token), key=_place) :]
    token = _write(_place(found[size - 1])) if len(found) > size else ""
    return room_pb2.ListRoomsResponse(rooms=found[:size], next_page_token=token)


def _fits(room: room_pb2.RoomListing, wish: room_pb2.ListRoomsRequest) -> bool:
    return (
        wish.game in ("", room.game)
        and not (wish.not_locked and room.locked)
        and not (wish.has_free_seats and room.players >= room.max_players)
        and all(room.metadata.get(name) == value for name, value in wish.metadata.items())
    )


def _place(room: room_pb2.RoomListing) -> Place:
    return -room.create_time.seconds, room.room_id


def _write(place: Place) -> str:
    return base64.urlsafe_b64encode(f"{place[0]} {place[1]}".encode()).decode()


def _read(token: str) -> Place:
    try:
        created, room_id = base64.urlsafe_b64decode(token).decode().split(" ")
        return int(created), room_id
    except (binascii.Error, ValueError) as error:
        raise errors.InvalidArgument("PAGE_TOKEN_INVALID", "no such page") from error
