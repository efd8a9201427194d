"""The tick budget: a room that is often too slow is told of, then closed; the others go on."""

from rallypoint.games.budget import CLOSE, REPORT
from rallypoint.games.columns import Table, u32
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo, RoomGame, message
from rallypoint.games.room import Seat


class Clock:
    """A clock that only the game moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Steps(Table, rows=1):
    done = u32()


class Busy(RoomGame):
    info = GameInfo(name="busy", max_players=1, tick_budget_ms=5)
    tables = (Steps,)

    def on_tick(self, dt_s: float) -> None:
        self.room.table(Steps).done += 1
        CLOCK.now += float(self.room.options["tick_ms"]) / 1000

    @message(1)
    def work(self, seat: int, body: bytes) -> bytes:
        CLOCK.now += body[0] / 1000
        return b""


def table(*tick_ms: float) -> RoomTable:
    made = RoomTable(define(Busy), capacity=4, clock=CLOCK)
    for number, cost in enumerate(tick_ms):
        seats = [Seat(0, "p", "P")]
        made.open(RoomSpec(id=f"r{number}", seats=seats, options={"tick_ms": cost}))
    return made


def test_slow_room_is_reported_then_closed_and_others_go_on() -> None:
    rooms = table(1, 9, 1)
    reported = []
    for step in range(1, CLOSE + 10):
        rooms.step()
        reported += [(step, slot) for slot in rooms.take_slow()]
    (ended,) = rooms.take_ended()
    assert (ended.slot, ended.reason) == (1, "TICK_BUDGET")
    assert reported == [(REPORT, 1), (CLOSE, 1)]
    assert rooms.room(0).table(Steps).done[0] == CLOSE + 9
    assert rooms.room(1).table(Steps).done[0] == CLOSE


def test_messages_count_as_well() -> None:
    rooms = table(1)
    for _ in range(CLOSE):
        rooms.answer(0, 0, 1, b"\x05")
        rooms.step()
    assert [ended.reason for ended in rooms.take_ended()] == ["TICK_BUDGET"]


def test_room_that_is_slow_now_and_then_is_left_alone() -> None:
    rooms = table(1)
    for step in range(10 * CLOSE):
        if step % 3 == 0:
            rooms.answer(0, 0, 1, b"\x09")
        rooms.step()
    assert rooms.take_ended() == []
    assert rooms.take_slow() == []
