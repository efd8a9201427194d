"""Rooms that players make: CreateRoom, JoinByCode and ListRooms.

Fleet alone places a room: CreateRoom goes on to its Allocate, with a room id that a player and a
request_id always lead to. JoinByCode reads the code's key and the room's record, which must name
the code, and asks the room's node for the seat: the node alone counts seats, so none is given
twice. Codes that lead nowhere cost a token of the player's bucket and of the address's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc.aio

from rallypoint.gateway import calls, limits
from rallypoint.gateway.domain import buckets
from rallypoint.gateway.node_channels import NodeChannels
from rallypoint.gateway.rooms_list import RoomList
from rallypoint.gateway.tokens import Session
from rallypoint.internal.v1 import (
    allocation_pb2,
    allocation_pb2_grpc,
    room_host_pb2,
    room_host_pb2_grpc,
)
from rallypoint.internal.v1.events_pb2 import CodeRecord, OwnRecord
from rallypoint.kit import errors, names, rpc, subjects
from rallypoint.kit.bus_kv import Kv
from rallypoint.kit.names import RoomId
from rallypoint.v1 import room_pb2

SERVICE = "/rallypoint.v1.RoomService/"
MAX_OPTIONS_BYTES = 1024


@dataclass(frozen=True, slots=True)
class OpenRoomSettings:
    """What players may make, and how often they may guess."""

    open_rooms_set: str = "local"
    """The set of nodes that players' own rooms are placed in; empty: players make none."""
    rooms_per_player_per_min: float = 6.0
    """CreateRoom calls of one player in the long run."""
    rooms_per_player_burst: float = 6.0
    """CreateRoom calls of one player at once."""
    rooms_per_address_per_min: float = 30.0
    """CreateRoom calls of one address, since guests cost nothing; in a trusted range, no limit."""
    wrong_codes_per_min: float = 10.0
    """Codes that led nowhere, of one player or of one address, before they have to wait."""
    spectators_per_room: int = 50
    """The most spectators that a player may let into a room."""
    record_mb: int = 16
    """What is kept of a room that a player has recorded, at most."""
    spectate_delay_s: float = 10.0
    """How far behind a player's room its spectators are."""
    place_timeout_s: float = 5.0
    """How long a room may take to be placed."""
    seat_timeout_s: float = 3.0
    """How long a room's node may take to give a seat."""


class OpenRooms:
    """The handlers."""

    def __init__(
        self,
        fleet: grpc.aio.Channel,
        owners: Kv,
        rooms: RoomList,
        nodes: NodeChannels,
        *,
        trusted: Iterable[str],
        clock: Callable[[], float],
        settings: OpenRoomSettings,
    ) -> None:
        self._fleet: allocation_pb2_grpc.AllocationServiceAsyncStub
        self._fleet = allocation_pb2_grpc.AllocationServiceStub(fleet)
        self._owners = owners
        self._rooms = rooms
        self._trusted = buckets.Ranges(trusted)
        self._clock = clock
        self._settings = settings
        self._nodes = nodes
        made_per_s = settings.rooms_per_player_per_min / 60
        self._makers = buckets.Buckets(buckets.Rate(made_per_s, settings.rooms_per_player_burst))
        from_one = settings.rooms_per_address_per_min
        self._addresses = buckets.Buckets(buckets.Rate(from_one / 60, from_one))
        wrong = settings.wrong_codes_per_min
        self._guesses = buckets.Buckets(buckets.Rate(wrong / 60, wrong))
        self._waiting: dict[str, float] = {}

    def methods(self) -> list[calls.Method]:
        """What the edges serve."""
        return [
            calls.UnaryMethod(
                SERVICE + "CreateRoom",
                room_pb2.CreateRoomRequest,
                room_pb2.CreateRoomResponse,
                self.create,
            ),
            calls.UnaryMethod(
                SERVICE + "JoinByCode",
                room_pb2.JoinByCodeRequest,
                room_pb2.JoinByCodeResponse,
                self.join,
            ),
            calls.UnaryMethod(
                SERVICE + "ListRooms",
                room_pb2.ListRoomsRequest,
                room_pb2.ListRoomsResponse,
                self._rooms.list,
            ),
        ]

    # --- CreateRoom ---

    async def create(
        self, call: calls.Call, request: room_pb2.CreateRoomRequest
    ) -> room_pb2.CreateRoomResponse:
        """Have fleet make the room, or find the one that an earlier try made."""
        session: Session = call.session
        if not self._settings.open_rooms_set:
            raise errors.FailedPrecondition("OPEN_ROOMS_OFF", "players make no rooms here")
        wanted = self._wanted(session, request)
        self._ration(session, call.peer)
        async with rpc.calling():
            made = await self._fleet.Allocate(wanted, timeout=self._settings.place_timeout_s)
        mine = next((seat for seat in made.seats if seat.player_id == session.player_id), None)
        if mine is None:
            raise errors.FailedPrecondition("SEAT_GONE", "the seat was given up since")
        return room_pb2.CreateRoomResponse(
            room_id=made.room_id, code=made.code, seat_token=mine.seat_token
        )

    def _ration(self, session: Session, peer: str) -> None:
        now = self._clock()
        wait_s = self._makers.take(session.player_id, now)
        if not wait_s and peer not in self._trusted:
            wait_s = self._addresses.take(buckets.address_key(peer), now)
        if wait_s:
            raise limits.exhausted("ROOM_RATE", wait_s)

    def _wanted(
        self, session: Session, request: room_pb2.CreateRoomRequest
    ) -> allocation_pb2.AllocateRequest:
        names.check_id(request.request_id, "request_id")
        names.check_name(request.game, "game")
        check_options(request.options)
        self._check_recording(request)
        return allocation_pb2.AllocateRequest(
            request_id=room_id(session.player_id, request.request_id),
            set=self._settings.open_rooms_set,
            game=request.game,
            players=[_player(session)],
            options=request.options,
            open=allocation_pb2.OpenRoom(
                visibility=request.visibility,
                max_players=request.max_players,
                metadata=request.metadata,
            ),
            recording=self._recording(request) if request.record else None,
        )

    def _check_recording(self, request: room_pb2.CreateRoomRequest) -> None:
        most = self._settings.spectators_per_room
        if request.max_spectators > (most if request.record else 0):
            raise errors.InvalidArgument(
                "SPECTATORS_INVALID", f"at most {most}, and only in a room that is recorded"
            )

    def _recording(self, request: room_pb2.CreateRoomRequest) -> allocation_pb2.Recording:
        return allocation_pb2.Recording(
            max_bytes=self._settings.record_mb * 1024 * 1024,
            spectators=request.max_spectators,
            spectate_delay_ms=round(self._settings.spectate_delay_s * 1000),
        )

    # --- JoinByCode ---

    async def join(
        self, call: calls.Call, request: room_pb2.JoinByCodeRequest
    ) -> room_pb2.JoinByCodeResponse:
        """Give the player a seat in the code's room."""
        session: Session = call.session
        guessers = self._guessers(session, call.peer)
        self._refuse_guessers(guessers)
        try:
            return await self._join(session, request.code)
        except errors.NotFound:
            self._guessed_wrong(guessers)
            raise

    async def _join(self, session: Session, typed: str) -> room_pb2.JoinByCodeResponse:
        code = names.read_code(typed)
        room_id, address = await self._behind(code)
        host = room_host_pb2_grpc.RoomHostServiceStub(self._nodes.get(address))
        wanted = room_host_pb2.AddPlayersRequest(room_id=room_id, players=[_player(session)])
        try:
            async with rpc.calling():
                added = await host.AddPlayers(wanted, timeout=self._settings.seat_timeout_s)
        except errors.NotFound as error:
            raise _unknown() from error
        except (errors.Unavailable, errors.DeadlineExceeded) as error:
            raise errors.Unavailable(
                "ROOM_AWAY", "the room is out of reach for the moment", retry_after_s=1.0
            ) from error
        return room_pb2.JoinByCodeResponse(
            room_id=room_id, seat_token=added.seats[0].seat_token, game=added.game
        )

    async def _behind(self, code: str) -> tuple[RoomId, str]:
        """The room of a code and its node's address; NotFound CODE_UNKNOWN."""
        entry = await self._owners.get(subjects.code(code))
        if entry is None or entry.value is None:
            raise _unknown()
        room_id = RoomId(CodeRecord.FromString(entry.value).room_id)
        entry = await self._owners.get(subjects.own(room_id))
        own = OwnRecord() if entry is None else OwnRecord.FromString(entry.value or b"")
        if own.code != code:
            raise _unknown()
        return room_id, own.address

    def _guessers(self, session: Session, peer: str) -> list[str]:
        """Whose guess it would be: the player's, and the address's unless that is trusted."""
        keys = [f"player {session.player_id}"]
        return keys if peer in self._trusted else [*keys, f"at {buckets.address_key(peer)}"]

    def _refuse_guessers(self, guessers: Iterable[str]) -> None:
        for key in guessers:
            wait_s = self._waiting.get(key, 0.0) - self._clock()
            if wait_s > 0:
                raise limits.exhausted("CODE_RATE", wait_s)
            self._waiting.pop(key, None)

    def _guessed_wrong(self, guessers: Iterable[str]) -> None:
        now = self._clock()
        for key in guessers:
            wait_s = self._guesses.take(key, now)
            if wait_s:
                if len(self._waiting) >= 10_000:
                    del self._waiting[next(iter(self._waiting))]
                self._waiting[key] = now + wait_s


def room_id(player_id: str, request_id: str) -> str:
    """The room that a player's request makes, however often it is sent."""
    digest = hashlib.blake2b(f"{player_id} {request_id}".encode(), digest_size=16).digest()
    return "r" + base64.b32encode(digest).decode().rstrip("=").lower()


def check_options(options: bytes) -> None:
    """Raise InvalidArgument for options that are no small JSON object."""
    try:
        if len(options) <= MAX_OPTIONS_BYTES and isinstance(json.loads(options or b"{}"), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise errors.InvalidArgument("OPTIONS_INVALID", "options are a JSON object of at most 1 KiB")


def _player(session: Session) -> allocation_pb2.SeatRequest:
    return allocation_pb2.SeatRequest(
        player_id=session.player_id, display_name=session.display_name
    )


def _unknown() -> errors.NotFound:
    return errors.NotFound("CODE_UNKNOWN", "no room has this code")
