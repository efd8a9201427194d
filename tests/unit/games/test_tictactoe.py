"""Tic-tac-toe, played through the harness."""

import pytest

from rallypoint.games.game import Refused
from rallypoint.games.harness import RoomHarness
from rallypoint.games.tictactoe import PLACE, PLACED, TicTacToe


def place(room: RoomHarness, *cells: int, first: int = 0) -> None:
    for turn, cell in enumerate(cells):
        room.reply((first + turn) % 2, PLACE, bytes((cell,)))


def ranks(room: RoomHarness) -> dict[int, int]:
    assert room.outcome is not None
    return {placement.slot: placement.rank for placement in room.outcome.placements}


def test_three_in_a_row_wins() -> None:
    room = RoomHarness(TicTacToe)
    place(room, 0, 3, 1, 4, 2)
    assert ranks(room) == {0: 1, 1: 2}


def test_full_board_is_a_draw() -> None:
    room = RoomHarness(TicTacToe)
    place(room, 0, 1, 2, 4, 3, 5, 7, 6, 8)
    assert ranks(room) == {0: 1, 1: 1}


def test_marks_and_moves_are_seen() -> None:
    room = RoomHarness(TicTacToe)
    place(room, 4)
    room.step()
    assert room.seen("board")["mark"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert room.seen("turn")["seat"][0] == 1
    assert [(event.kind, event.body) for event in room.events] == [(PLACED, b"\x00\x04")]


@pytest.mark.parametrize(
    ("seat", "body", "reason"),
    [
        (1, b"\x00", "NOT_YOUR_TURN"),
        (0, b"\x04", "CELL_TAKEN"),
        (0, b"\x09", "CELL_INVALID"),
        (0, b"", "CELL_INVALID"),
        (0, b"\x01\x02", "CELL_INVALID"),
    ],
)
def test_illegal_move_is_refused(seat: int, body: bytes, reason: str) -> None:
    room = RoomHarness(TicTacToe)
    place(room, 3, 4)
    with pytest.raises(Refused, match=reason):
        room.reply(seat, PLACE, body)
    assert room.outcome is None


def test_no_move_before_both_came() -> None:
    room = RoomHarness(TicTacToe, join=False)
    room.join(0)
    with pytest.raises(Refused, match="NOT_STARTED"):
        room.reply(0, PLACE, b"\x00")


def test_who_leaves_loses() -> None:
    room = RoomHarness(TicTacToe)
    room.leave(0)
    assert ranks(room) == {1: 1, 0: 2}


def test_who_lets_the_time_run_out_loses() -> None:
    room = RoomHarness(TicTacToe, options={"turn_limit_s": 2})
    room.run(1.5)
    place(room, 0)
    room.run(1.5)
    assert room.outcome is None
    room.run(1.0)
    assert ranks(room) == {0: 1, 1: 2}
