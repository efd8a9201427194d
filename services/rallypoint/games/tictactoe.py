"""Tic-tac-toe: turn-based, one object per room, moves are messages.

| | |
|---|---|
| table `board` | 9 rows, row by row: `mark` 0 empty, 1 or 2 = seat + 1 |
| table `turn` | one row: `seat` to move, `deadline` the tick at which that seat loses |
| message 1 `PLACE` | body: one byte, the cell 0 to 8; answered with nothing |
| refused | NOT_STARTED, NOT_YOUR_TURN, CELL_INVALID, CELL_TAKEN (all INVALID_ARGUMENT) |
| event 1 `PLACED` | body: seat, cell |
| option | `turn_limit_s`, default 60 |

Seat 0 begins. Who leaves or lets the time run out loses.
"""

from typing import Final

from rallypoint.games.chat import Chat
from rallypoint.games.columns import Table, u8, u32
from rallypoint.games.game import GameInfo, Refused, RoomGame, message
from rallypoint.games.room import Placement

PLACE: Final = 1
PLACED: Final = 1
LINES: Final = (
    (0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6),
)  # fmt: skip


class Board(Table, rows=9):
    """The nine cells."""

    mark = u8()


class Turn(Table, rows=1):
    """Whose move it is, and until which tick."""

    deadline = u32()
    seat = u8()


class TicTacToe(RoomGame):
    """One game of tic-tac-toe."""

    info = GameInfo(
        name="tictactoe",
        title="Tic-tac-toe",
        min_players=2,
        max_players=2,
        tick_hz=10,
        grace_s=60.0,
        late_join=True,
    )
    tables = (Board, Turn)
    plugins = (Chat(),)

    def on_create(self) -> None:
        """Refuse a time per turn that nobody could play with."""
        self._limit_s = float(self.room.options.get("turn_limit_s", 60))
        if not 1 <= self._limit_s <= 3600:
            raise Refused("OPTIONS_INVALID", "turn_limit_s must be 1 to 3600")
        self._joined: set[int] = set()

    def on_join(self, seat: int) -> None:
        """Begin when both are there."""
        self._joined.add(seat)
        if self._started:
            self._next(0)

    def on_leave(self, seat: int, reason: str) -> None:
        """Who leaves loses."""
        self._win(1 - seat)

    @message(PLACE)
    def place(self, seat: int, body: bytes) -> bytes:
        """Put one's mark on a cell."""
        if not self._started:
            raise Refused("NOT_STARTED", "the other player has not come yet")
        if seat != self.room.table(Turn).seat[0]:
            raise Refused("NOT_YOUR_TURN", "it is the other player's turn")
        if len(body) != 1 or body[0] > 8:
            raise Refused("CELL_INVALID", "a move is one byte from 0 to 8")
        marks = self.room.table(Board).mark
        if marks[body[0]]:
            raise Refused("CELL_TAKEN", f"cell {body[0]} is taken")
        marks[body[0]] = seat + 1
        self.room.emit(PLACED, bytes((seat, body[0])))
        self._judge(seat)
        return b""

    def on_tick(self, dt_s: float) -> None:
        """Who lets the time run out loses."""
        turn = self.room.table(Turn)
        if self._started and self.room.tick >= turn.deadline[0]:
            self._win(1 - int(turn.seat[0]))

    @property
    def _started(self) -> bool:
        return len(self._joined) == 2

    def _judge(self, seat: int) -> None:
        marks = self.room.table(Board).mark
        if any(all(marks[cell] == seat + 1 for cell in line) for line in LINES):
            self._win(seat)
        elif marks.all():
            self.room.finish([Placement(0, rank=1, score=0.5), Placement(1, rank=1, score=0.5)])
        else:
            self._next(1 - seat)

    def _next(self, seat: int) -> None:
        turn = self.room.table(Turn)
        turn.seat = seat
        turn.deadline = self.room.tick + round(self._limit_s / self.room.dt_s)

    def _win(self, seat: int) -> None:
        self.room.finish([Placement(seat, rank=1, score=1.0), Placement(1 - seat, rank=2)])
