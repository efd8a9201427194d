"""The engine: a raising game hurts its own room only, and rooms play alike alone and together."""

import numpy as np
import pytest

from rallypoint.games import skirmish
from rallypoint.games.codec import pack_input
from rallypoint.games.columns import Input, Table, flag, hidden, u8, u16
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import GAME_ERROR, GameFailed, RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo, Refused, RoomGame, message
from rallypoint.games.room import Room, Rooms, Seat, SeatState


class Cells(Table):
    count = u16()
    bomb = u8()


class Press(Input):
    go = flag()


class Bombs(ColumnGame):
    info = GameInfo(name="bombs", max_players=2)
    tables = (Cells,)
    input = Press

    def on_join(self, room: Room, seat: int) -> None:
        if room.options.get("bad_join"):
            raise RuntimeError("join")

    def on_tick(self, rooms: Rooms) -> None:
        cells = rooms.table(Cells)
        cells.count += 1
        for room in range(len(rooms)):
            rooms.emit(room, 1)
        if cells.bomb.any():
            raise RuntimeError("boom")


class LonelyBombs(RoomGame):
    info = GameInfo(name="lonely", max_players=2)
    tables = (Cells,)

    @message(1)
    def arm(self, seat: int, body: bytes) -> bytes:
        if body == b"no":
            raise Refused("NO_BOMBS_PLEASE")
        if body == b"raise":
            raise RuntimeError("message")
        self.room.table(Cells).bomb[seat] = 1
        return b"armed"

    def on_tick(self, dt_s: float) -> None:
        cells = self.room.table(Cells)
        cells.count += 1
        if cells.bomb.any():
            raise RuntimeError("boom")


def opened(definition: Definition, rooms: int, **options: object) -> RoomTable:
    table = RoomTable(definition, capacity=8)
    seats = [Seat(0, "a", "A"), Seat(1, "b", "B")]
    for number in range(rooms):
        table.open(RoomSpec(id=f"r{number}", seats=seats, options=options, seed=number))
    return table


@pytest.mark.parametrize("game", [Bombs, LonelyBombs])
def test_raising_tick_ends_its_room_alone(game: type[Bombs] | type[LonelyBombs]) -> None:
    table = opened(define(game), 3)
    table.step()
    table.room(1).table(Cells).bomb[0] = 1
    table.step()
    ended = table.take_ended()
    assert [(end.slot, end.reason, str(end.error)) for end in ended] == [(1, GAME_ERROR, "boom")]
    counts = [int(table.room(slot).table(Cells).count[0]) for slot in (0, 2)]
    assert counts == [2, 2]
    table.release(1)
    table.step()
    assert table.take_ended() == []
    assert table.room(0).table(Cells).count[0] == 3


def test_failed_tick_leaves_no_trace() -> None:
    table = opened(define(Bombs), 2)
    table.room(1).table(Cells).bomb[0] = 1
    table.step()
    assert table.rollbacks == 1
    assert table.room(1).table(Cells).count[0] == 0
    frames = table.deltas()
    assert frames[0].count(b"\x2a\x04\x08\x01\x10\x01") == 1
    assert frames[1].count(b"\x2a\x04") == 0


def test_raising_join_ends_its_room() -> None:
    table = opened(define(Bombs), 1, bad_join=True)
    table.join(0, 0)
    assert [end.reason for end in table.take_ended()] == [GAME_ERROR]


def test_refused_message_changes_nothing() -> None:
    table = opened(define(LonelyBombs), 1)
    with pytest.raises(Refused, match="NO_BOMBS_PLEASE"):
        table.answer(0, 0, 1, b"no")
    with pytest.raises(Refused, match="MESSAGE_UNKNOWN"):
        table.answer(0, 0, 9, b"")
    assert table.answer(0, 0, 1, b"") == b"armed"
    assert table.take_ended() == []


def test_raising_message_ends_its_room() -> None:
    table = opened(define(LonelyBombs), 1)
    with pytest.raises(GameFailed):
        table.answer(0, 0, 1, b"raise")
    assert [end.reason for end in table.take_ended()] == [GAME_ERROR]


def test_freed_slot_is_used_again_from_zero() -> None:
    table = opened(define(LonelyBombs), 2)
    table.step()
    table.close(0, "TEST")
    table.take_ended()
    table.release(0)
    assert table.open(RoomSpec(id="new", seats=[Seat(0, "a", "A")])) == 0
    assert table.room(0).table(Cells).count[0] == 0
    assert table.seat_state(0, 0) is SeatState.RESERVED
    assert table.seat_state(0, 1) is SeatState.EMPTY


def test_too_many_players_are_refused() -> None:
    table = RoomTable(define(Bombs), capacity=1)
    with pytest.raises(Refused, match="TOO_MANY_PLAYERS"):
        table.open(RoomSpec(id="r", seats=[Seat(slot, "p", "P") for slot in range(3)]))


def test_old_room_is_closed() -> None:
    class Short(RoomGame):
        info = GameInfo(name="short", max_players=1, tick_hz=10, max_age_s=0.5)

    table = RoomTable(define(Short), capacity=1)
    table.open(RoomSpec(id="r", seats=[Seat(0, "p", "P")]))
    for _ in range(8):
        table.step()
    assert [end.reason for end in table.take_ended()] == ["ROOM_TOO_OLD"]


def test_timer_fires_once_by_name() -> None:
    class Clock(RoomGame):
        info = GameInfo(name="clock", max_players=1, tick_hz=10)
        rung = 0

        def on_create(self) -> None:
            self.room.after(0.3, "ring")

        def ring(self) -> None:
            self.room.emit(7)

    table = RoomTable(define(Clock), capacity=1)
    table.open(RoomSpec(id="r", seats=[Seat(0, "p", "P")]))
    seen = []
    for _ in range(6):
        table.step()
        seen.append(b"\x10\x07" in table.deltas()[0])
    assert seen == [False, False, True, False, False, False]


def played(rooms: list[int], ticks: int) -> dict[int, list[bytes]]:
    """Frames of some rooms of skirmish, played with the same inputs whoever else plays."""
    definition = define(skirmish.Skirmish)
    table = RoomTable(definition, capacity=8)
    slots = {}
    for number in rooms:
        seats = [Seat(slot, f"p{slot}", "P") for slot in range(4)]
        slots[number] = table.open(RoomSpec(id=f"r{number}", seats=seats, seed=number))
        for seat in range(4):
            table.join(slots[number], seat)
    frames: dict[int, list[bytes]] = {number: [] for number in rooms}
    dice = {number: np.random.default_rng(number) for number in rooms}
    for tick in range(1, ticks + 1):
        for number, slot in slots.items():
            for seat in range(4):
                dx, dy, aim = dice[number].integers(-100, 100, 3)
                values = {"dx": dx, "dy": dy, "aim": aim * 300 % 65536, "fire": tick % 2}
                table.offer(slot, seat, tick, [pack_input(definition.schema.input, values)])
        table.step()
        for number, frame in zip(rooms, table.deltas(), strict=True):
            frames[number].append(frame)
    return frames


def test_rooms_play_alike_together_and_alone() -> None:
    together = played([3, 5, 8], ticks=120)
    for number in (3, 5, 8):
        assert played([number], ticks=120) == {number: together[number]}


def test_hidden_dtype_names_a_column() -> None:
    class Odd(Table, rows=1):
        note = hidden("i2")

    assert Odd.sent() == ()
    assert Odd.note.dtype == np.int16


def test_margins_of_inputs_are_shown_once_a_second() -> None:
    table = RoomTable(define(Bombs), capacity=2)
    slot = table.open(RoomSpec(id="room", seats=[Seat(0, "p", "P", 0), Seat(1, "q", "Q", 1)]))
    seats = next(runs for kind, runs in table.arena.runs.items() if kind.wire_name == "seats")
    shown = next(run.values[1] for run in seats if run.columns[-1].name == "margin")
    for margin in (13, 400):
        table.rings.heard.hear(1, ack_tick=table.tick, view_ms=0, margin_ms=margin)
        while table.tick % 20:
            table.step()
        table.step()
        for _ in range(20):
            table.step()
        assert shown[slot].tolist() == [0, min(margin, 255)]
