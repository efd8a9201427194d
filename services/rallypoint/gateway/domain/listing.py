"""Pages of the list of rooms: filters, order, tokens. Newest first, then by id."""

from __future__ import annotations

import base64
import binascii
import bisect
import itertools

from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

DEFAULT_PAGE = 50
MAX_PAGE = 100
MAX_SCAN = 1000
"""Rooms that one call looks at; what it did not see, the next page does."""
Place = tuple[int, str]
"""Where a room stands in the list."""


class Listing:
    """The rooms in order, of all games and of each, so that a page costs what it looks at."""

    def __init__(self) -> None:
        self._rooms: dict[str, room_pb2.RoomListing] = {}
        self._at: dict[Place, room_pb2.RoomListing] = {}
        self._order: dict[str, list[Place]] = {"": []}

    def put(self, key: str, room: room_pb2.RoomListing) -> None:
        """Take a room, or what has changed of one."""
        known, place = self._rooms.get(key), _place(room)
        if known is None or (_place(known), known.game) != (place, room.game):
            self.drop(key)
            for game in ("", room.game):
                bisect.insort(self._order.setdefault(game, []), place)
        self._rooms[key] = self._at[place] = room

    def drop(self, key: str) -> None:
        """Forget a room, if it is there."""
        room = self._rooms.pop(key, None)
        if room is None:
            return
        place = _place(room)
        del self._at[place]
        for game in ("", room.game):
            order = self._order[game]
            del order[bisect.bisect_left(order, place)]
        if room.game and not self._order[room.game]:
            del self._order[room.game]

    def page(self, request: room_pb2.ListRoomsRequest) -> room_pb2.ListRoomsResponse:
        """The page that a request asks for; a short one when it would take a long look."""
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        order = self._order.get(request.game, [])
        start = bisect.bisect(order, _read(request.page_token)) if request.page_token else 0
        looked = order[start : start + MAX_SCAN]
        fitting = (room for place in looked if _fits(room := self._at[place], request))
        found = list(itertools.islice(fitting, size + 1))
        token = ""
        if len(found) > size:
            token = _write(_place(found[size - 1]))
        elif start + len(looked) < len(order):
            token = _write(looked[-1])
        return room_pb2.ListRoomsResponse(rooms=found[:size], next_page_token=token)


def _fits(room: room_pb2.RoomListing, wish: room_pb2.ListRoomsRequest) -> bool:
    return (
        not (wish.not_locked and room.locked)
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
