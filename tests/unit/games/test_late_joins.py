"""What a game can do with players who come later: seats, locks, metadata, kicks."""

import numpy as np
import pytest

from rallypoint.games import Chat, RoomHarness
from rallypoint.games.columns import Table, u8
from rallypoint.games.engine import GameFailed
from rallypoint.games.game import ColumnGame, GameInfo, Refused, RoomGame, message
from rallypoint.games.room import Room, Rooms, Seat, SeatState


class Count(Table, rows=1):
    joined = u8()


class Lobby(RoomGame):
    info = GameInfo(name="lobby", max_players=3, late_join=True)
    tables = (Count,)

    def on_join(self, seat: int) -> None:
        self.room.table(Count).joined += 1
        self.room.set_metadata({"players": len(self.room.seats), "host": self.room.seats[0].slot})
        if len(self.room.seats) == 3:
            self.room.lock()

    def on_leave(self, seat: int, reason: str) -> None:
        self.room.unlock()

    @message(1)
    def grow(self, seat: int, body: bytes) -> bytes:
        self.room.set_metadata({"big": "x" * 2000})
        return b""


def test_player_who_comes_later_gets_a_seat_and_joins() -> None:
    room = RoomHarness(Lobby, players=1)
    seat = room.add_player("bob")
    assert room.room.seats[seat].player_id == "bob"
    assert room.room.seat_states[seat] == SeatState.RESERVED
    room.join(seat)
    room.step()
    assert room.seen("count", seat=seat)["joined"][0] == 2
    assert dict(room.room.metadata) == {"players": "2", "host": "0"}


def test_room_locks_and_unlocks_itself() -> None:
    room = RoomHarness(Lobby, players=2)
    assert not room.room.locked
    room.join(room.add_player())
    assert room.room.locked
    room.leave(0)
    assert not room.room.locked


def test_metadata_that_is_too_long_is_the_games_error() -> None:
    room = RoomHarness(Lobby, players=1)
    with pytest.raises(Exception, match="GAME_ERROR"):
        room.reply(0, 1)
    assert isinstance(room.error, ValueError)


class Club(RoomGame):
    info = GameInfo(name="club", max_players=4, late_join=True)
    plugins = (Chat(),)

    def on_admit(self, player: Seat) -> int | None:
        if player.player_id == "eve":
            raise Refused("NOT_INVITED")
        if player.player_id == "bug":
            raise RuntimeError("no such player")
        return player.slot % 2


def test_game_turns_players_away_and_says_their_team() -> None:
    room = RoomHarness(Club, players=1)
    with pytest.raises(Refused, match="NOT_INVITED"):
        room.add_player("eve")
    assert [room.add_player(), room.add_player()] == [1, 2]
    assert [seat.team for seat in room.room.seats] == [0, 1, 0]
    with pytest.raises(GameFailed):
        room.add_player("bug")
    assert room.room.seats[-1].slot == 2


class Doors(ColumnGame):
    info = GameInfo(name="doors", max_players=2, late_join=True)

    def on_join(self, room: Room, seat: int) -> None:
        room.set_metadata({"open": "yes"})

    def on_tick(self, rooms: Rooms) -> None:
        if rooms.tick == 2:
            rooms.lock(0)
        if rooms.tick == 3:
            rooms.unlock(0)
            rooms.kick(0, 1, "TOO_SLOW")


def test_column_game_locks_and_kicks_in_its_tick() -> None:
    room = RoomHarness(Doors, players=2)
    room.step(2)
    assert room.room.locked
    room.step()
    assert not room.room.locked
    assert room.kicks == [(1, "TOO_SLOW")]
    assert room.room.metadata == {"open": "yes"}


class Greedy(RoomGame):
    info = GameInfo(name="greedy", max_players=3, late_join=True)

    @message(1)
    def half(self, seat: int, body: bytes) -> bytes:
        self.room.request_backfill(body[0] / 2)  # type: ignore[arg-type]  # what a game may do
        return b""

    @message(2)
    def all(self, seat: int, body: bytes) -> bytes:
        self.room.request_backfill(1 << 40)
        return b""


def test_game_that_wants_half_a_player_ends_with_its_error() -> None:
    room = RoomHarness(Greedy, players=1)
    with pytest.raises(Exception, match="GAME_ERROR"):
        room.reply(0, 1, b"\3")
    assert isinstance(room.error, TypeError)
    assert "1.5" in str(room.error)


def test_room_wants_no_more_players_than_it_has_seats() -> None:
    room = RoomHarness(Greedy, players=1)
    room.reply(0, 2)
    assert room.room.backfill == 3


class Numbers(ColumnGame):
    info = GameInfo(name="numbers", max_players=2, late_join=True)

    def on_tick(self, rooms: Rooms) -> None:
        rooms.request_backfill(0, {1: np.int64(7), 2: -1}.get(int(rooms.tick[0]), 0.5))  # type: ignore[arg-type]  # the same


def test_column_game_wants_whole_players_too() -> None:
    room = RoomHarness(Numbers, players=1)
    room.step()
    assert room.room.backfill == 2
    room.step()
    assert room.room.backfill == 0
    room.step()
    assert isinstance(room.error, TypeError)
