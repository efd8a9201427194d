"""Seats that are given after a room was made: none twice, none too many."""

import itertools

import pytest

from rallypoint.games.room import Seat, SeatState
from rallypoint.kit import errors
from rallypoint.room_state.domain.seats import SeatBook


def book(*, capacity: int = 3, reuse: bool = True) -> SeatBook:
    numbers = itertools.count()
    return SeatBook(
        [Seat(0, "p0", "P0", 0)],
        reserve_until=30.0,
        grace_s=10.0,
        new_token=lambda: b"t%015d" % next(numbers),
        capacity=capacity,
        reuse=reuse,
    )


def admit(seats: SeatBook, player: str) -> int:
    return seats.admit(player, player.upper(), team=0, reserve_until=50.0).slot


def test_players_get_the_empty_seats_and_no_more() -> None:
    seats = book()
    assert [admit(seats, "p1"), admit(seats, "p2")] == [1, 2]
    with pytest.raises(errors.ResourceExhausted, match="ROOM_FULL"):
        admit(seats, "p3")
    assert seats.taken == 3


def test_seat_opens_with_its_fresh_token() -> None:
    seats = book()
    slot = admit(seats, "p1")
    first, second = seats.grant(slot), seats.grant(slot)
    assert seats.open("p1", [second]).slot == slot
    assert first != second
    assert seats.held("p1") == slot
    assert seats.held("p9") is None


def test_seat_that_was_left_is_given_anew_under_a_higher_generation() -> None:
    seats = book(capacity=1)
    opened = seats.open("p0", [seats.grant(0)])
    seats.leave(0)
    assert admit(seats, "p1") == 0
    assert seats.state(0) is SeatState.RESERVED
    again = seats.open("p1", [seats.grant(0)])
    assert again.generation > opened.generation


def test_seat_of_a_rated_match_is_not_given_anew() -> None:
    seats = book(capacity=1, reuse=False)
    seats.leave(0)
    with pytest.raises(errors.ResourceExhausted, match="ROOM_FULL"):
        admit(seats, "p1")


def test_who_was_kicked_gets_no_seat() -> None:
    seats = book()
    slot = admit(seats, "p1")
    seats.kick(slot)
    seats.leave(slot)
    with pytest.raises(errors.PermissionDenied, match="KICKED"):
        admit(seats, "p1")


def test_party_gets_seats_for_all_or_for_none() -> None:
    seats = book()
    with pytest.raises(errors.ResourceExhausted, match="ROOM_FULL"):
        seats.offered(["p1", "p2", "p3"])
    assert seats.offered(["p1", "p2"]) == [1, 2]


def test_seat_held_for_nobody_who_comes_runs_out() -> None:
    seats = book()
    slot = admit(seats, "p1")
    assert (slot, "NO_SHOW") not in seats.expired(49.0)
    assert (slot, "NO_SHOW") in seats.expired(51.0)
