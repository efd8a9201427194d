"""A game class compiled: its schema, the memory it needs and how its hooks are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rallypoint.games import declared, grid, hosts, plugin
from rallypoint.games.arena import Layout
from rallypoint.games.budget import Clock
from rallypoint.games.columns import Input, Table, hidden, u8, u16
from rallypoint.games.game import ColumnGame, Game, GameInfo
from rallypoint.games.rates import Limiter, Rate
from rallypoint.games.schema import ColumnSpec, Schema, TableSpec, Visibility


class Seats(Table):
    """Table 0: what the platform tells clients of each seat."""

    ack = u16()
    state = u8()
    margin = u8()


TABLE_ROOMS: Final = 64
TABLE_SEATS: Final = 2048
CROWD: Final = 64
"""With more seats than this, each client is told of its own seat only."""


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
    def table_rooms(self) -> int:
        """Rooms of a table of the engine: fewer when each has many seats."""
        return max(1, min(TABLE_ROOMS, TABLE_SEATS // self.seats))

    @property
    def crowded(self) -> bool:
        """Whether clients are told of their own seat only."""
        return self.seats > CROWD

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

    def host(self, clock: Clock = lambda: 0.0) -> hosts.Host:
        """What runs the hooks of one table of rooms; `clock` measures what each takes."""
        host: hosts.Host
        if issubclass(self.game, ColumnGame):
            host = hosts.ColumnHost(self.game())
        else:
            host = hosts.RoomHost(self.game, clock)
        return hosts.PluggedHost(host, self.game.plugins, clock) if self.game.plugins else host

    def limiter(self) -> Limiter:
        """The rates of messages, for one room."""
        found: dict[int, Rate] = {}
        for source in (*reversed(self.game.plugins), self.game):
            found |= source.message_rates
        return Limiter(found)


def define(game: type[Game]) -> Definition:
    """Compile a game class; ValueError when its declarations make no sense."""
    declared.check(game)
    info = game.info
    plugin.check(game.plugins)
    theirs = [table for plugged in game.plugins for table in plugged.tables]
    tables: tuple[type[Table], ...] = (Seats, *game.tables, *theirs, Book)
    layouts = tuple(Layout(table, table.rows or info.max_players) for table in tables)
    names = [table.wire_name for table in tables]
    if len(set(names)) < len(names):
        raise ValueError(f"{info.name}: two tables have the same name: {', '.join(names)}")
    sent = [layout for layout in layouts if layout.table.sent()]
    _check_cells(info, tables)
    specs = tuple(_table_spec(index, layout) for index, layout in enumerate(sent))
    inputs = _column_specs(game.input) if game.input else ()
    return Definition(info, game, layouts, Schema(specs, inputs), game.input)


def _check_cells(info: GameInfo, tables: Sequence[type[Table]]) -> None:
    celled = [table for table in tables if table.cells is not None]
    for table in celled:
        grid.of(table)
    if celled and sum(table.rows is None for table in celled) != 1:
        raise ValueError(f"{info.name}: exactly one table with cells must have one row per seat")


def _table_spec(index: int, layout: Layout) -> TableSpec:
    table = layout.table
    columns = _column_specs(table)
    crowded = table is Seats and layout.rows > CROWD
    visibility = Visibility.OWNER if crowded else table.visibility
    return TableSpec(index, table.wire_name, layout.rows, columns, visibility)


def _column_specs(columns: type[Table] | type[Input]) -> tuple[ColumnSpec, ...]:
    return tuple(column.spec() for column in columns.sent())
