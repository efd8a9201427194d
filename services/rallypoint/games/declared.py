"""What a game class declares, looked at before anything is made of it.

Each mistake is one ValueError that says what to write instead. Without it a hook with the wrong
parameters would be found by the first player who causes it, and one that is `async` by nobody.
"""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from rallypoint.games.columns import Input, Table
from rallypoint.games.game import ColumnGame, GameInfo, RoomGame
from rallypoint.games.plugin import Plugin


def check(game: object) -> None:
    """ValueError for what cannot be a game."""
    if not (isinstance(game, type) and issubclass(game, RoomGame | ColumnGame)):
        raise ValueError(f"{_named(game)} must be a subclass of RoomGame or ColumnGame")
    if not isinstance(getattr(game, "info", None), GameInfo):
        raise ValueError(f'{_named(game)} must have info = GameInfo(name="…", max_players=…)')
    _check_each(game, "tables", "(Board,)", lambda item: _is_class(item, Table))
    _check_each(game, "plugins", "(Chat(),)", lambda item: isinstance(item, Plugin))
    if game.input is not None and not _is_class(game.input, Input):
        raise ValueError(f"{_named(game)}.input must be a subclass of Input")
    style = ColumnGame if issubclass(game, ColumnGame) else RoomGame
    for name in (name for name in vars(style) if name.startswith("on_")):
        _check_hook(game, name, _parameters(vars(style)[name]))
    answer = ("self", "room", "seat", "body") if style is ColumnGame else ("self", "seat", "body")
    for name in game.message_methods.values():
        _check_hook(game, name, answer)


def _check_each(game: Any, what: str, example: str, fits: Callable[[object], bool]) -> None:
    found = getattr(game, what)
    if not (isinstance(found, tuple | list) and all(map(fits, found))):
        raise ValueError(f"{_named(game)}.{what} must be a tuple such as {example}, not {found!r}")


def _check_hook(game: type, name: str, wanted: tuple[str, ...]) -> None:
    """A hook has to take what it is called with, by place, and to be done when it returns."""
    method = inspect.getattr_static(game, name)
    if not isinstance(method, FunctionType):
        return  # whoever makes one that is no plain function knows why
    if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
        raise ValueError(f"{_named(game)}.{name} must be a plain function: nobody awaits a hook")
    try:
        inspect.signature(method).bind(*wanted)
    except TypeError:
        takes = f"({', '.join(_parameters(method))})"
        should = f"({', '.join(wanted)})"
        raise ValueError(f"{_named(game)}.{name} takes {takes}; it must take {should}") from None


def _parameters(method: Callable[..., object]) -> tuple[str, ...]:
    return tuple(inspect.signature(method).parameters)


def _is_class(item: object, kind: type) -> bool:
    return isinstance(item, type) and issubclass(item, kind)


def _named(game: object) -> str:
    return game.__name__ if isinstance(game, type) else repr(game)
