"""Plug-ins: their hooks run around the game's, in order, and are rolled back with it."""

import pytest

from rallypoint.games import ColumnGame, Plugin, RoomHarness
from rallypoint.games.columns import Table, u8
from rallypoint.games.definition import define
from rallypoint.games.game import Game, GameInfo, Refused, RoomGame, message
from rallypoint.games.room import Room, Rooms

HOOKS: list[str] = []


class Votes(Table):
    cast = u8()


class Beat(Table, rows=1):
    ticks = u8()


class Voting(Plugin):
    tables = (Votes, Beat)

    def on_create(self, room: Room) -> None:
        if room.options.get("votes") == "none":
            raise Refused("OPTIONS_INVALID")
        HOOKS.append("before create")

    def on_join(self, room: Room, seat: int) -> None:
        HOOKS.append("before join")
        room.after(0.1, "voting.remind")

    def on_tick(self, room: Room) -> None:
        room.table(Beat).ticks += 1
        if room.table(Beat).ticks[0] == 3:
            room.emit(9, b"three")
        if room.options.get("fail"):
            raise RuntimeError("the plug-in failed")

    def remind(self, room: Room) -> None:
        room.emit(10, b"vote!")

    @message(50, rate="1/s")
    def vote(self, room: Room, seat: int, body: bytes) -> bytes:
        room.table(Votes).cast[seat] = body[0]
        return b"counted"


class Epilogue(Plugin):
    order = "after"
    requires = (Voting,)

    def on_create(self, room: Room) -> None:
        HOOKS.append("after create")

    def on_join(self, room: Room, seat: int) -> None:
        HOOKS.append("after join")


class Single(RoomGame):
    info = GameInfo(name="single", max_players=2, tick_hz=10)
    plugins = (Voting(), Epilogue())

    def on_create(self) -> None:
        HOOKS.append("create")

    def on_join(self, seat: int) -> None:
        HOOKS.append("join")


class Many(ColumnGame):
    info = GameInfo(name="many", max_players=2, tick_hz=10)
    plugins = (Voting(), Epilogue())

    def on_create(self, room: Room) -> None:
        HOOKS.append("create")

    def on_join(self, room: Room, seat: int) -> None:
        HOOKS.append("join")

    def on_tick(self, rooms: Rooms) -> None:
        return


@pytest.fixture(params=[Single, Many], ids=["room", "columns"])
def game(request: pytest.FixtureRequest) -> type[Game]:
    HOOKS.clear()
    chosen: type[Game] = request.param
    return chosen


def test_hooks_run_around_the_games_own(game: type[Game]) -> None:
    RoomHarness(game, players=1)
    created = ["before create", "create", "after create"]
    assert [*created, "before join", "join", "after join"] == HOOKS


def test_plugin_answers_its_messages_and_keeps_its_tables(game: type[Game]) -> None:
    room = RoomHarness(game, players=2)
    assert room.reply(1, 50, b"\x04") == b"counted"
    room.step()
    assert room.seen("votes")["cast"].tolist() == [0, 4]
    with pytest.raises(Exception, match="MESSAGE_RATE"):
        room.reply(1, 50, b"\x05")
    with pytest.raises(Refused, match="MESSAGE_UNKNOWN"):
        room.reply(1, 51)


def test_plugin_ticks_and_has_timers(game: type[Game]) -> None:
    room = RoomHarness(game, players=1)
    room.step(4)
    assert room.seen("beat")["ticks"][0] == 4
    assert [(event.kind, event.body) for event in room.events] == [(10, b"vote!"), (9, b"three")]


def test_plugin_that_raises_ends_its_room(game: type[Game]) -> None:
    room = RoomHarness(game, players=1, options={"fail": True})
    room.step()
    assert room.closed == "GAME_ERROR"
    assert isinstance(room.error, RuntimeError)


def test_plugin_refuses_options(game: type[Game]) -> None:
    with pytest.raises(Refused, match="OPTIONS_INVALID"):
        RoomHarness(game, players=1, options={"votes": "none"})


def test_plugins_that_do_not_fit_are_found_at_once() -> None:
    class Twice(RoomGame):
        info = GameInfo(name="twice", max_players=1)
        plugins = (Voting(), Voting())

    class Alone(RoomGame):
        info = GameInfo(name="alone", max_players=1)
        plugins = (Epilogue(), Voting())

    with pytest.raises(ValueError, match="two plug-ins are named voting"):
        define(Twice)
    with pytest.raises(ValueError, match="list voting before epilogue"):
        define(Alone)
