"""What a room's end tells everybody else."""

from rallypoint.games.engine import Ended
from rallypoint.games.harness import RoomHarness
from rallypoint.games.room import Outcome, Placement, Seat
from rallypoint.games.tictactoe import TicTacToe
from rallypoint.room_state.closing import match_result
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity


class Nobody:
    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        return

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        return


def ended_room(*, who_came: tuple[int, ...]) -> tuple[HostedRoom, Ended]:
    """A room of two that everybody has left, won by seat 1."""
    tokens = iter([b"a", b"b", b"c", b"d"])
    seats = [Seat(slot, f"p{slot}", "P") for slot in range(2)]
    book = SeatBook(seats, reserve_until=9.0, grace_s=9.0, new_token=lambda: next(tokens))
    given = {seat.slot: token for seat, token in book.grants()}
    for slot in who_came:
        book.open(f"p{slot}", [given[slot]])
    for seat in seats:
        book.leave(seat.slot)
    identity = RoomIdentity(room_id="r", epoch=1, game="g", queue="q", set="", own_revision=0)
    room = HostedRoom(
        identity,
        slot=0,
        state=RoomHarness(TicTacToe).room,
        book=book,
        post=lambda command: command(),
        observer=Nobody(),
    )
    return room, Ended(0, outcome=Outcome((Placement(1, 1), Placement(0, 2))))


def test_match_to_which_nobody_came_is_not_rated() -> None:
    result = match_result(*ended_room(who_came=()))
    assert result is not None
    assert not result.rated


def test_match_that_one_did_not_come_to_is_rated() -> None:
    result = match_result(*ended_room(who_came=(1,)))
    assert result is not None
    assert result.rated
