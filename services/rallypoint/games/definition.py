"""A game class compiled: its schema, the memory it needs and how its hooks are called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rallypoint.games.arena import Layout
from rallypoint.games.columns import Input, Table, hidden, u8, u16
from rallypoint.games.game import ColumnGame, Game, GameInfo, RoomGame
from rallypoint.games.room import Room, Rooms
from rallypoint.games.schema import ColumnSpec, Schema, TableSpec


class Seats(Table):
    """Table 0: what the platform tells clients of each seat."""

    ack = u16()
    state = u8()


class Book(Table, rows=1):
    """What the platform keeps of each room, rolled back with the game's own columns."""

    dice = hidden("u8")  # numpy's u8: 8 bytes


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything fixed about a game."""

    info: GameInfo
    game: type[Game]
    layouts: tuple[Layout, ...]
    schema: Schema
    input: type[Input] | None

    @property
    def seats(self) -> int:
        """Seats of every room."""
        return self.info.max_players

    @property
    def ticks_per_frame(self) -> int:
        """Steps from one frame to the next."""
        return self.info.tick_hz // self.send_hz

    @property
    def send_hz(self) -> int:
        """Frames per second."""
        return self.info.send_hz or self.info.tick_hz

    @property
    def input_hz(self) -> int:
        """Inputs per second that clients should send."""
        return (self.info.input_hz or self.info.tick_hz) if self.input else 0

    def host(self) -> "Host":
        """What runs the hooks of one table of rooms."""
        if issubclass(self.game, ColumnGame):
            return ColumnHost(self.game())
        return RoomHost(self.game)


def define(game: type[Game]) -> Definition:
    """Compile a game class; ValueError when its declarations contradict each other."""
    info = game.info
    tables: tuple[type[Table], ...] = (Seats, *game.tables, Book)
    layouts = tuple(Layout(table, table.rows or info.max_players) for table in tables)
    names = [table.wire_name for table in tables]
    if len(set(names)) < len(names):
        raise ValueError(f"{info.name}: two tables have the same name: {', '.join(names)}")
    sent = [layout for layout in layouts if layout.table.sent()]
    specs = tuple(_table_spec(index, layout) for index, layout in enumerate(sent))
    inputs = _column_specs(game.input) if game.input else ()
    return Definition(info, game, layouts, Schema(specs, inputs), game.input)


def _table_spec(index: int, layout: Layout) -> TableSpec:
    table = layout.table
    columns = _column_specs(table)
    return TableSpec(index, table.wire_name, layout.rows, columns, table.visibility)


def _column_specs(columns: type[Table] | type[Input]) -> tuple[ColumnSpec, ...]:
    return tuple(column.spec() for column in columns.sent())


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

    def __init__(self, game: Callable[[Room], RoomGame]) -> None:
        self._make = game
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
        for index, live in enumerate(rooms.live.tolist()):
            if live:
                try:
                    self._games[rooms.room(index)].on_tick(rooms.dt_s)
                except Exception as error:
                    rooms.failures[index] = error
