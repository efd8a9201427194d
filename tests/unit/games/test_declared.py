"""What a studio gets wrong in a game class is told by name, before anybody plays."""

from __future__ import annotations

from typing import Any

import pytest

from rallypoint.games import ColumnGame, GameInfo, RoomGame, Table, message, u8
from rallypoint.games.definition import define

INFO = GameInfo(name="nim", max_players=2)


class Heap(Table, rows=1):
    left = u8()


def game(style: type = RoomGame, **declared: Any) -> type[Any]:
    return type("Nim", (style,), {"info": INFO, "tables": (Heap,), **declared})


async def _late(self: Any, seat: int, body: bytes) -> bytes:
    return b""


answer: Any = message(1)
late: Any = answer(_late)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        pytest.param(object, "object must be a subclass of RoomGame", id="no game"),
        pytest.param(game(info=None), r"Nim must have info = GameInfo", id="no info"),
        pytest.param(game(tables=Heap), r"Nim.tables must be a tuple such as", id="no comma"),
        pytest.param(game(tables=(5,)), r"Nim.tables must be a tuple such as", id="no table"),
        pytest.param(game(input=Heap), "Nim.input must be a subclass of Input", id="no input"),
        pytest.param(game(plugins=(Heap,)), "Nim.plugins must be a tuple", id="no plug-in"),
        pytest.param(
            game(on_tick=lambda self: None), r"takes \(self\); .* \(self, dt_s\)", id="no dt"
        ),
        pytest.param(
            game(ColumnGame, on_join=lambda self, seat: None),
            r"Nim.on_join takes \(self, seat\); it must take \(self, room, seat\)",
            id="no room",
        ),
        pytest.param(game(take=late), "nobody awaits a hook", id="async"),
    ],
)
def test_a_wrong_declaration_says_what_to_write(wrong: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        define(wrong)


@pytest.mark.parametrize(
    "hooks",
    [
        {},
        {"on_tick": lambda self, dt: None},
        {"on_join": lambda self, *seats: None},
        {"on_leave": lambda self, seat, reason, points=3: None},
    ],
    ids=["none", "a name of its own", "any number", "one more with a default"],
)
def test_a_hook_may_name_what_it_takes_as_it_likes(hooks: dict[str, Any]) -> None:
    assert define(game(**hooks)).info is INFO


def test_two_methods_for_one_message_are_refused() -> None:
    def take(self: Any, seat: int, body: bytes) -> None: ...

    with pytest.raises(ValueError, match="two methods answer message 1"):
        game(take=answer(take), pass_on=late)
