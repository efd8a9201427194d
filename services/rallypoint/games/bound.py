"""Rooms of a table as a column game sees them in its tick: views of ranges of rooms.

Views cost microseconds each, and a tick mostly asks for the same range, so they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rallypoint.games.dice import Dice
from rallypoint.games.room import Room, Rooms

if TYPE_CHECKING:
    from rallypoint.games.arena import Arena
    from rallypoint.games.columns import Table
    from rallypoint.games.definition import Book, Seats
    from rallypoint.games.inputs import InputRings
    from rallypoint.games.rewind import Rewind
    from rallypoint.games.schema import Array

PastOf = Callable[["type[Table]", int], "Rewind"]
"""How a table was, for rooms from a slot on."""


class Views:
    """`rooms(start, stop)` for one table, whose arrays stay where they are."""

    def __init__(
        self,
        arena: Arena,
        rings: InputRings,
        *,
        seats: Seats,
        book: Book,
        live: Array,
        ticks: Array,
        first_tick: Array,
        dt_s: float,
        room: Callable[[int], Room],
        past: PastOf,
    ) -> None:
        """`live`, `ticks` and `first_tick` are by slot, as `room` and `past` are asked."""
        self._arena = arena
        self._rings = rings
        self._seats = seats
        self._book = book
        self._live = live
        self._ticks = ticks
        self._first_tick = first_tick
        self._dt_s = dt_s
        self._room = room
        self._past = past
        self._kept: dict[tuple[int, int], Rooms] = {}

    def rooms(self, start: int, stop: int) -> Rooms:
        """The rooms of these slots, in which nothing has happened yet."""
        kept = self._kept.get((start, stop))
        if kept is None:
            if len(self._kept) > self._arena.rooms:
                self._kept.clear()
            kept = self._kept[start, stop] = self._made(start, stop)
        kept.begin()
        return kept

    def _made(self, start: int, stop: int) -> Rooms:
        rooms = slice(start, stop)
        bound: dict[type[Table], Table] = {}
        inputs = self._rings.bind(rooms)

        def bind(table: type[Table]) -> Table:
            if table not in bound:
                bound[table] = self._arena.bind(table, rooms)
            return bound[table]

        return Rooms(
            bind=bind,
            bind_input=lambda: inputs,
            dice=Dice(self._book.dice[rooms, 0]),
            live=self._live[rooms],
            first_tick=self._first_tick[rooms],
            tick=self._ticks[rooms],
            dt_s=self._dt_s,
            states=self._seats.state[rooms],
            taken=self._rings.fresh.reshape(self._arena.rooms, -1)[rooms],
            room=lambda index: self._room(start + index),
            rewind=lambda table: self._past(table, start),
        )
