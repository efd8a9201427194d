"""Views of a range of rooms of a table; each costs microseconds, so they are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rallypoint.games.columns import Input, Table
from rallypoint.games.dice import Dice
from rallypoint.games.schema import Array


@dataclass(slots=True, kw_only=True)
class Bound:
    """Views of a range of rooms, good for as long as the table is."""

    bind: Callable[[type[Table]], Table]
    input: Input
    dice: Dice
    live: Array
    ticks: Array
    first_tick: Array
    states: Array
    taken: Array
    _tables: dict[type[Table], Table] = field(default_factory=dict)

    def table(self, kind: type[Table]) -> Table:
        """The table's columns in these rooms."""
        bound = self._tables.get(kind)
        if bound is None:
            bound = self._tables[kind] = self.bind(kind)
        return bound
