"""Rooms of one's own: make one, enter one by its code, look for one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from google.protobuf.message import Message

from rallypoint.client import channel as channels
from rallypoint.client.session import Session
from rallypoint.kit import errors, names
from rallypoint.v1 import room_pb2

SERVICE = "/rallypoint.v1.RoomService"
GONE = (
    errors.NotFound, errors.FailedPrecondition, errors.PermissionDenied, errors.ResourceExhausted,
)  # fmt: skip
"""What a listed room answers that is over, locked or full by now."""


class Rooms:
    """CreateRoom, JoinByCode and ListRooms in the name of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(
        self, game: str, *, request_id: str = "", listed: bool = False, **wanted: Any
    ) -> room_pb2.CreateRoomResponse:
        """Make a room; `wanted` are further fields of CreateRoomRequest."""
        request = room_pb2.CreateRoomRequest(
            request_id=request_id or names.new_id(),
            game=game,
            visibility=(
                room_pb2.ROOM_VISIBILITY_LISTED if listed else room_pb2.ROOM_VISIBILITY_PRIVATE
            ),
            **wanted,
        )
        return await self._call("CreateRoom", request, room_pb2.CreateRoomResponse)

    async def join(self, code: str) -> room_pb2.JoinByCodeResponse:
        """A seat in the room of a code."""
        request = room_pb2.JoinByCodeRequest(code=code)
        return await self._call("JoinByCode", request, room_pb2.JoinByCodeResponse)

    async def join_or_create(self, game: str, **wanted: Any) -> tuple[str, bytes]:
        """Room and seat token in the newest open room of a game, or in a listed one of one's own.

        `wanted` is what a room that is made gets; its metadata is what an open one must have.
        """
        rooms = self.list(game, metadata=wanted.get("metadata"), open_only=True)
        async for room in rooms:
            try:
                found = await self.join(room.code)
            except GONE:
                continue
            await rooms.aclose()
            return found.room_id, found.seat_token
        made = await self.create(game, listed=True, **wanted)
        return made.room_id, made.seat_token

    async def list(
        self, game: str = "", *, metadata: Mapping[str, str] | None = None, open_only: bool = False
    ) -> AsyncGenerator[room_pb2.RoomListing, None]:
        """The listed rooms, newest first; `open_only`: that let somebody in now."""
        request = room_pb2.ListRoomsRequest(
            game=game, metadata=metadata, has_free_seats=open_only, not_locked=open_only
        )
        while True:
            page = await self._call("ListRooms", request, room_pb2.ListRoomsResponse)
            for room in page.rooms:
                yield room
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _call(
        self, method: str, request: Message, answer: type[channels.Answer]
    ) -> channels.Answer:
        return await channels.call(
            self._session.channel,
            f"{SERVICE}/{method}",
            request,
            answer=answer,
            token=await self._session.token(),
        )
