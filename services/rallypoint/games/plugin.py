"""Plug-ins: behaviour that games share, such as chat, in the hooks of every room of a game.

A game lists instances: `plugins = (Chat(rate="2/s"), Votes())`. Hooks are as a `ColumnGame`'s and
run around the game's own: those of `order = "before"` ahead of it, those of "after" behind, each in
the order listed. A message goes to the first that marked its kind. What a plug-in keeps of a room
stands in its `tables`, or it would be lost with the process.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from rallypoint.games.columns import Table
from rallypoint.games.messages import Answering
from rallypoint.games.room import Room, Seat


class Plugin(Answering):
    """One instance serves all rooms. A timer's method is named `<name>.<method>`."""

    name: ClassVar[str] = ""
    """Unique within a game; the class's name in small letters when empty."""
    order: ClassVar[Literal["before", "after"]] = "before"
    requires: ClassVar[Sequence[type["Plugin"]]] = ()
    """Plug-ins that must be listed before this one."""
    tables: ClassVar[Sequence[type[Table]]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = vars(cls).get("name", "") or cls.__name__.lower()

    def on_create(self, room: Room) -> None:
        """A room is set up; raise Refused for options that make no sense."""

    def on_admit(self, room: Room, player: Seat) -> None:
        """Somebody wants a seat later; raise Refused to turn them away."""

    def on_join(self, room: Room, seat: int) -> None:
        """A player came for the first time."""

    def on_drop(self, room: Room, seat: int) -> None:
        """A player's stream broke."""

    def on_rejoin(self, room: Room, seat: int) -> None:
        """A player is back."""

    def on_leave(self, room: Room, seat: int, reason: str) -> None:
        """A player is gone for good."""

    def on_tick(self, room: Room) -> None:
        """One step of one room."""


def check(plugins: Sequence[Plugin]) -> None:
    """ValueError for plug-ins of the same name or without what they require before them."""
    seen: list[Plugin] = []
    for plugin in plugins:
        if plugin.name in [other.name for other in seen]:
            raise ValueError(f"two plug-ins are named {plugin.name}")
        for needed in plugin.requires:
            if not any(isinstance(other, needed) for other in seen):
                raise ValueError(f"list {needed.name} before {plugin.name}, which needs it")
        seen.append(plugin)
