"""Seats: tokens rotate, the newest stream wins, time runs out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.games.room import Seat, SeatState
from rallypoint.kit import errors
from rallypoint.room_state.domain.seats import SavedBook, SeatBook


def book(players: int = 2) -> SeatBook:
    numbers = itertools.count()
    seats = [Seat(slot, f"p{slot}", f"P{slot}", slot) for slot in range(players)]
    return SeatBook(
        seats, reserve_until=30.0, grace_s=10.0, new_token=lambda: b"t%015d" % next(numbers)
    )


def tokens(seats: SeatBook) -> dict[int, bytes]:
    return {seat.slot: token for seat, token in seats.grants()}


def refused(seats: SeatBook, player: str, *offered: bytes) -> bool:
    try:
        seats.open(player, offered)
    except errors.PermissionDenied as error:
        return error.reason == "SEAT_REFUSED"
    return False


def test_token_opens_the_seat_of_its_player_only() -> None:
    seats = book()
    granted = tokens(seats)
    assert refused(seats, "p0", granted[1])
    assert refused(seats, "p1", granted[0])
    assert refused(seats, "p0", b"x" * 16)
    assert refused(seats, "p0")
    opened = seats.open("p0", [granted[0]])
    assert (opened.slot, opened.generation) == (0, 1)
    assert seats.state(0) is SeatState.CONNECTED


def test_old_token_stays_good_until_the_new_one_is_used() -> None:
    seats = book()
    first = tokens(seats)[0]
    lost_reply = seats.open("p0", [first])
    second = seats.open("p0", [first])
    assert seats.open("p0", [second.token]).generation == 3
    assert refused(seats, "p0", first)
    assert refused(seats, "p0", lost_reply.token)


def test_both_tokens_may_be_offered() -> None:
    seats = book()
    first = tokens(seats)[0]
    second = seats.open("p0", [first]).token
    third = seats.open("p0", [second, first]).token
    assert refused(seats, "p0", first)
    assert not refused(seats, "p0", third, second)


def test_repeated_create_keeps_the_tokens_given_before() -> None:
    seats = book()
    before, after = tokens(seats)[1], tokens(seats)[1]
    assert before != after
    assert seats.open("p1", [before]).generation == 1


def test_retake_needs_the_newest_generation() -> None:
    seats = book()
    granted = tokens(seats)
    seats.open("p0", [granted[0]])
    seats.open("p0", [granted[0]])
    with pytest.raises(errors.Aborted, match="STREAM_REPLACED"):
        seats.retake(0, "p0", 1)
    assert seats.retake(0, "p0", 2).generation == 2
    assert seats.retake(0, "p0", 5).generation == 5
    assert seats.generation(0) == 5


@pytest.mark.parametrize(("slot", "player"), [(0, "p1"), (7, "p0")])
def test_retake_of_a_foreign_seat_is_refused(slot: int, player: str) -> None:
    with pytest.raises(errors.PermissionDenied):
        book().retake(slot, player, 1)


def test_dropped_seat_is_kept_for_the_grace_time() -> None:
    seats = book()
    token = tokens(seats)[0]
    opened = seats.open("p0", [token])
    seats.drop(0, now=100.0)
    assert (0, "GRACE_EXPIRED") not in seats.expired(109.9)
    assert (0, "GRACE_EXPIRED") in seats.expired(110.0)
    seats.open("p0", [opened.token])
    assert (0, "GRACE_EXPIRED") not in seats.expired(999.0)


def test_who_never_comes_loses_the_seat() -> None:
    seats = book()
    assert seats.expired(29.0) == []
    assert seats.expired(30.0) == [(0, "NO_SHOW"), (1, "NO_SHOW")]


def test_seat_given_up_cannot_be_taken_again() -> None:
    seats = book()
    token = tokens(seats)[0]
    seats.open("p0", [token])
    seats.leave(0)
    assert refused(seats, "p0", token)
    assert refused(seats, "p0", tokens(seats)[0])
    with pytest.raises(errors.PermissionDenied):
        seats.retake(0, "p0", 1)
    assert not seats.abandoned
    seats.leave(1)
    assert seats.abandoned


def saving() -> SeatBook:
    numbers = itertools.count()
    seats = [Seat(slot, f"p{slot}", f"P{slot}", slot) for slot in range(2)]
    return SeatBook(
        seats,
        reserve_until=30.0,
        grace_s=10.0,
        new_token=lambda: b"t%015d" % next(numbers),
        saves=True,
    )


def restored(saved: SavedBook, now: float = 0.0) -> SeatBook:
    return SeatBook.restored(
        saved, now=now, grace_s=10.0, rejoin_s=5.0, new_token=lambda: b"restored" * 2
    )


def test_no_token_is_retired_before_the_next_is_saved() -> None:
    seats = saving()
    first = tokens(seats)[0]
    old = seats.saved(0.0)
    seats.written(old)
    second = seats.open("p0", [first]).token
    assert second
    again = seats.open("p0", [second, first])
    assert again.token == b""
    assert not refused(restored(old), "p0", second, first)
    new = seats.saved(0.0)
    seats.written(new)
    third = seats.open("p0", [second, first]).token
    assert third
    assert refused(seats, "p0", first)
    assert not refused(restored(new), "p0", third, second)


@given(st.lists(st.sampled_from(["join", "lost join", "save", "crash"]), max_size=30))
def test_client_always_holds_a_token_that_a_restored_room_knows(steps: list[str]) -> None:
    seats = saving()
    held = [tokens(seats)[0]]
    stored = seats.saved(0.0)
    seats.written(stored)
    for step in steps:
        if step == "save":
            stored = seats.saved(0.0)
            seats.written(stored)
        elif step == "crash":
            seats = restored(stored)
        else:
            opened = seats.open("p0", held)
            if step == "join" and opened.token:
                held = [opened.token, *held][:2]
    assert not refused(restored(stored), "p0", *held)


def test_restored_seats_keep_their_times_and_generations() -> None:
    seats = saving()
    granted = tokens(seats)
    seats.open("p0", [granted[0]])
    seats.drop(0, now=20.0)
    book = restored(seats.saved(25.0), now=1000.0)
    assert (book.state(0), book.generation(0)) == (SeatState.DROPPED, 1)
    assert book.expired(1004.9) == []
    assert book.expired(1005.0) == [(0, "GRACE_EXPIRED"), (1, "NO_SHOW")]


def test_player_who_does_not_come_back_with_the_room_is_dropped() -> None:
    seats = saving()
    granted = tokens(seats)
    for slot in range(2):
        seats.open(f"p{slot}", [granted[slot]])
    book = restored(seats.saved(0.0), now=100.0)
    assert book.retake(1, "p1", 3).generation == 3
    assert (book.missing(104.9), book.missing(105.0)) == ([], [0])
    book.drop(0, 105.0)
    assert (book.missing(106.0), book.expired(115.0)) == ([], [(0, "GRACE_EXPIRED")])


def test_repeated_grants_to_one_player_leave_the_tokens_of_others() -> None:
    seats = book()
    given = tokens(seats)
    for _ in range(10):
        granted = seats.grants({"p0"})
    assert [seat.player_id for seat, _ in granted] == ["p0"]
    assert not refused(seats, "p0", granted[0][1])
    assert not refused(seats, "p1", given[1])
