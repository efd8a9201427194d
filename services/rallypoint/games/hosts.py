"""How a game's hooks are called: one object for all rooms, or one per room, and its plug-ins."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from rallypoint.games.budget import Clock
from rallypoint.games.game import ColumnGame, RoomGame
from rallypoint.games.plugin import Plugin
from rallypoint.games.room import Effects, Room, Rooms

AROUND: Final = {"on_admit", "on_join", "on_drop", "on_rejoin", "on_leave"}
"""Hooks that plug-ins have too, besides `on_create` and `on_tick`."""


class Host(Protocol):
    """Calls a game's hooks. An isolating host reports a room's failure in `Rooms.failures`."""

    @property
    def isolating(self) -> bool:
        """Whether its tick never raises for the sake of one room."""

    def create(self, room: Room) -> None:
        """Set up a room."""

    def forget(self, room: Room) -> None:
        """The room is gone."""

    def snapshot(self, room: Room) -> bytes:
        """What the game keeps of a room outside its columns."""

    def restore(self, room: Room, data: bytes) -> None:
        """Set up a room whose columns are there already."""

    def call(self, hook: str, room: Room, *arguments: Any) -> Any:
        """Call a hook or a timer's method by name."""

    def tick(self, rooms: Rooms) -> None:
        """One step."""


class ColumnHost:
    """One game object for all rooms."""

    isolating = False

    def __init__(self, game: ColumnGame) -> None:
        self._game = game

    def create(self, room: Room) -> None:
        """Set up a room."""
        self._game.on_create(room)

    def forget(self, room: Room) -> None:
        """Nothing is kept per room."""

    def snapshot(self, room: Room) -> bytes:
        """What the game keeps of a room outside its columns."""
        return self._game.on_snapshot(room)

    def restore(self, room: Room, data: bytes) -> None:
        """Set up a room whose columns are there already."""
        self._game.on_restore(room, data)

    def call(self, hook: str, room: Room, *arguments: Any) -> Any:
        """Call a hook or a timer's method by name."""
        return getattr(self._game, hook)(room, *arguments)

    def tick(self, rooms: Rooms) -> None:
        """One step of all rooms."""
        self._game.on_tick(rooms)


class RoomHost:
    """One game object per room, looped over in the tick."""

    isolating = True

    def __init__(self, game: Callable[[Room], RoomGame], clock: Clock) -> None:
        self._make = game
        self._clock = clock
        self._games: dict[Room, RoomGame] = {}

    def create(self, room: Room) -> None:
        """Make the room's object and set it up."""
        game = self._make(room)
        game.on_create()
        self._games[room] = game

    def snapshot(self, room: Room) -> bytes:
        """What the room's object keeps outside its columns."""
        return self._games[room].on_snapshot()

    def restore(self, room: Room, data: bytes) -> None:
        """Make the object of a room whose columns are there already."""
        game = self._make(room)
        game.on_restore(data)
        self._games[room] = game

    def forget(self, room: Room) -> None:
        """Drop the room's object."""
        self._games.pop(room, None)

    def call(self, hook: str, room: Room, *arguments: Any) -> Any:
        """Call a hook or a timer's method by name."""
        return getattr(self._games[room], hook)(*arguments)

    def tick(self, rooms: Rooms) -> None:
        """One step of each room; one that raises does not keep the others from theirs."""
        clock = self._clock
        began = clock()
        for index, live in enumerate(rooms.live.tolist()):
            if live:
                try:
                    self._games[rooms.room(index)].on_tick(rooms.dt_s)
                except Exception as error:
                    rooms.failures[index] = error
                ended = clock()
                rooms.spent[index] = rooms.spent.get(index, 0.0) + ended - began
                began = ended


class PluggedHost:
    """A game's hooks with its plug-ins' around them."""

    def __init__(self, host: Host, plugins: Sequence[Plugin], clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._named = {plugin.name: plugin for plugin in plugins}
        self._before = [plugin for plugin in plugins if plugin.order == "before"]
        self._after = [plugin for plugin in plugins if plugin.order == "after"]
        self._answering = {
            kind: plugin for plugin in reversed(plugins) for kind in plugin.message_methods
        }

    @property
    def isolating(self) -> bool:
        """Whether its tick never raises for the sake of one room."""
        return self._host.isolating

    def create(self, room: Room) -> None:
        """Set up a room."""
        for plugin in self._before:
            plugin.on_create(room)
        self._host.create(room)
        try:
            for plugin in self._after:
                plugin.on_create(room)
        except Exception:
            self._host.forget(room)
            raise

    def forget(self, room: Room) -> None:
        """The room is gone."""
        self._host.forget(room)

    def snapshot(self, room: Room) -> bytes:
        """What the game keeps of a room outside its columns; plug-ins keep nothing there."""
        return self._host.snapshot(room)

    def restore(self, room: Room, data: bytes) -> None:
        """Set up a room whose columns are there already, those of plug-ins too."""
        self._host.restore(room, data)

    def call(self, hook: str, room: Room, *arguments: Any) -> Any:
        """Call a hook or a timer's method by name."""
        if hook in AROUND:
            self._each(self._before, hook, room, *arguments)
            answer = self._host.call(hook, room, *arguments)
            self._each(self._after, hook, room, *arguments)
            return answer
        if hook == "on_message" and (plugin := self._answering.get(arguments[1])) is not None:
            seat, kind, body = arguments
            return getattr(plugin, plugin.message_methods[kind])(room, seat, body) or b""
        name, dot, method = hook.partition(".")
        if dot:
            return getattr(self._named[name], method)(room)
        return self._host.call(hook, room, *arguments)

    def tick(self, rooms: Rooms) -> None:
        """One step of all rooms."""
        self._tick_each(self._before, rooms)
        self._host.tick(rooms)
        self._tick_each(self._after, rooms)

    def _each(self, plugins: Sequence[Plugin], hook: str, room: Room, *arguments: Any) -> None:
        for plugin in plugins:
            getattr(plugin, hook)(room, *arguments)

    def _tick_each(self, plugins: Sequence[Plugin], rooms: Rooms) -> None:
        for plugin in plugins:
            if type(plugin).on_tick is not Plugin.on_tick:
                for index, live in enumerate(rooms.live.tolist()):
                    if live and index not in rooms.failures:
                        self._tick(plugin, rooms, index)

    def _tick(self, plugin: Plugin, rooms: Rooms, index: int) -> None:
        """One plug-in's step of one room. What it did there counts as the tick's."""
        room, began = rooms.room(index), self._clock()
        try:
            plugin.on_tick(room)
        except Exception as error:
            room.effects = Effects()
            if not self.isolating:
                raise
            rooms.failures[index] = error
        else:
            if not self.isolating:
                rooms.absorb(index)
        rooms.spent[index] = rooms.spent.get(index, 0.0) + self._clock() - began
