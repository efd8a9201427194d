"""Declaring state: tables and inputs are classes, their columns are attributes.

    class Players(Table):                 # one row per seat; `rows=24` for another number
        x = q16(0, 1000)                  # a number stored as 16 bits between 0 and 1000
        health = u8()
        cooldown = hidden()               # kept by the server, never sent

    class Move(Input, idle="repeat"):
        turn = q8(-1, 1)
        fire = flag()

On the class an attribute is the declaration; on a bound instance it is the numpy array, which the
game reads and writes in place: of shape (rooms, rows) for many rooms, (rows,) for one. Quantized
columns are float64 for the game and are rounded only on the wire. Columns of the same kind next to
each other are encoded together, which is faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import numpy as np

from rallypoint.games.schema import Array, ColumnSpec, Kind, Visibility

Idle = Literal["repeat", "zero"]


class Column:
    """One declared column; reading it from a bound table gives its array."""

    __slots__ = ("dtype", "high", "kind", "low", "name")

    def __init__(
        self, kind: Kind | None, dtype: str, low: float | None = None, high: float | None = None
    ) -> None:
        if (
            kind is not None
            and kind.quantized
            and not (low is not None and high is not None and low < high)
        ):
            raise ValueError(f"a {kind.name} column needs minimum < maximum, got {low}, {high}")
        self.name = ""
        self.kind = kind
        self.dtype = np.dtype(dtype)
        self.low = low
        self.high = high

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:  # at run time the array stands in the instance itself, see `Columns`

        @overload
        def __get__(self, instance: None, owner: type) -> "Column": ...
        @overload
        def __get__(self, instance: "Columns", owner: type) -> Array: ...
        def __get__(self, instance: "Columns | None", owner: type) -> "Column | Array": ...
        def __set__(self, instance: "Columns", value: Any) -> None: ...

    def spec(self) -> ColumnSpec:
        """What the schema says of this column. Bounds of unquantized kinds are not on the wire."""
        if self.kind is None:
            raise ValueError(f"{self.name} is hidden")
        if self.kind.quantized and self.low is not None and self.high is not None:
            return ColumnSpec(self.name, self.kind, float(self.low), float(self.high))
        return ColumnSpec(self.name, self.kind)


class Columns:
    """What tables and inputs share: declared columns, and arrays once bound."""

    columns: ClassVar[tuple[Column, ...]] = ()
    wire_name: ClassVar[str] = ""
    arrays: Mapping[str, Array]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = tuple(value for value in vars(cls).values() if isinstance(value, Column))
        cls.columns = (*cls.columns, *own)
        cls.wire_name = cls.__name__.lower()

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        # Attributes of the instance, as a descriptor would cost more than many a numpy call.
        vars(self).update(arrays, arrays=arrays)

    def __setattr__(self, name: str, value: Any) -> None:
        array = self.arrays.get(name)
        if array is None:
            super().__setattr__(name, value)
        elif value is not array:  # `table.x += 1` has changed the array already
            array[...] = value

    @classmethod
    def sent(cls) -> tuple[Column, ...]:
        """The columns that go over the wire, in order."""
        return tuple(column for column in cls.columns if column.kind is not None)

    @property
    def flat(self) -> Self:
        """The same columns of many rooms with all rows in one line: row r of room n is the one of
        index n * rows + r."""
        kept: Self | None = vars(self).get("_flat")
        if kept is None:
            kept = type(self)(
                {name: array.reshape(-1, copy=False) for name, array in self.arrays.items()}
            )
            vars(self)["_flat"] = kept
        return kept

    def at(self, index: Any) -> Self:
        """The same columns, each indexed: `players.at(3)` is one of many rooms, or one row."""
        return type(self)({name: array[index] for name, array in self.arrays.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Rows are seen from nearby: by seats within `radius` of them, and a little beyond.

    `x` and `y` name the columns that place a row, with bounds; `alive` the one that is 0 for rows
    that are nowhere. Of a game's tables with cells exactly one has a row per seat: there the seats
    are. A room that is recorded shows all rows to who watches, unless `recorded` is False.
    """

    radius: float
    x: str = "x"
    y: str = "y"
    alive: str = ""
    recorded: bool = True


class Table(Columns):
    """A set of rows that clients see. `rows=None` gives one row per seat.

    A row of a TEAM table is seen by the team of its seat, or the one that its column `team` names;
    with `cells` a row is seen from nearby.
    """

    rows: ClassVar[int | None] = None
    visibility: ClassVar[Visibility] = Visibility.SHARED
    team: ClassVar[str] = ""
    cells: ClassVar[Cells | None] = None

    def __init_subclass__(
        cls,
        rows: int | None = None,
        visibility: Visibility = Visibility.SHARED,
        team: str = "",
        cells: Cells | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if cells is not None:
            visibility = Visibility.CELL
        elif visibility is Visibility.CELL:
            raise ValueError(f"{cls.__name__}: seen from where? say cells=Cells(radius=…)")
        if visibility is Visibility.OWNER and rows is not None:
            raise ValueError(f"{cls.__name__}: an OWNER table has one row per seat")
        if visibility is Visibility.TEAM and rows is not None and not team:
            raise ValueError(f"{cls.__name__}: whose is a row? name its column: team=…")
        for name in (team, cells.x, cells.y, cells.alive) if cells else (team,):
            if name and name not in {column.name for column in cls.columns}:
                raise ValueError(f"{cls.__name__} has no column {name}")
        cls.rows = rows
        cls.visibility = visibility
        cls.team = team
        cls.cells = cells


class Input(Columns):
    """What a player sends each step. `idle` says what counts when nothing came in time."""

    idle: ClassVar[Idle] = "zero"

    def __init_subclass__(cls, idle: Idle = "zero", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.idle = idle


def u8(low: int | None = None, high: int | None = None) -> Column:
    """0 to 255. In an input, values beyond the bounds are clamped."""
    return Column(Kind.U8, "u1", low, high)


def u16(low: int | None = None, high: int | None = None) -> Column:
    """0 to 65,535."""
    return Column(Kind.U16, "u2", low, high)


def u32(low: int | None = None, high: int | None = None) -> Column:
    """0 to 4,294,967,295."""
    return Column(Kind.U32, "u4", low, high)


def i8(low: int | None = None, high: int | None = None) -> Column:
    """-128 to 127."""
    return Column(Kind.I8, "i1", low, high)


def i16(low: int | None = None, high: int | None = None) -> Column:
    """-32,768 to 32,767."""
    return Column(Kind.I16, "i2", low, high)


def i32(low: int | None = None, high: int | None = None) -> Column:
    """-2,147,483,648 to 2,147,483,647."""
    return Column(Kind.I32, "i4", low, high)


def f32(low: float | None = None, high: float | None = None) -> Column:
    """A single-precision number. In an input, NaN becomes the lower bound, or 0."""
    return Column(Kind.F32, "f4", low, high)


def q8(low: float, high: float) -> Column:
    """A number from `low` to `high` in 255 steps, 1 byte."""
    return Column(Kind.Q8, "f8", low, high)


def q16(low: float, high: float) -> Column:
    """A number from `low` to `high` in 65,535 steps, 2 bytes."""
    return Column(Kind.Q16, "f8", low, high)


def flag() -> Column:
    """True or false, 1 byte; an array of bool. As an input it counts as true when any input taken
    in a tick had it set, so that a short press is never lost."""
    return Column(Kind.U8, "?", 0, 1)


def hidden(dtype: str = "f8") -> Column:
    """A column of any numpy type that stays on the server."""
    return Column(None, dtype)
