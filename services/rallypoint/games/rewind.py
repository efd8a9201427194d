"""What players saw: positions of the last ticks, for games that judge by what was on the screen.

A column game names what is to be remembered, and in its tick asks how it was for a player:

    rewinds = {Players: ("x", "y")}

    past = rooms.rewind(Players)
    delay = past.delay(room, seat)          # in ticks, by what the seat's client drew
    x, y = past.at(room, delay)             # of shape (len(room), rows)

`room`, `seat` and `delay` are arrays of one length. A client draws others a little in the past and
says which moment with its inputs (docs/wire.md §4). It is believed within bounds: no later than the
tick it has acknowledged, no earlier than `MOST_S` ago. Between two ticks places are interpolated; a
row is remembered since its room began here, its seat was taken, or the game had it forgotten, as
after a jump, and before that it stands where it stood first.

The columns are copied once a tick. They are no part of a room's snapshot: in a room that has moved,
or was restored, remembering begins anew.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rallypoint.games.arena import Arena
from rallypoint.games.columns import Table
from rallypoint.games.definition import Definition
from rallypoint.games.heard import ACK_TICK, VIEW_MS, Heard
from rallypoint.games.schema import Array

TICKS: Final = 32
MOST_S: Final = 0.5


class Memory:
    """The remembered columns of one table of rooms, by the tables of the game."""

    def __init__(
        self, definition: Definition, arena: Arena, heard: Heard, rooms: Sequence[object]
    ) -> None:
        """`rooms` has what is in each slot; another object means another room."""
        hz = definition.info.tick_hz
        self._tables: dict[type[Table], Past] = {}
        for table, names in definition.game.rewinds.items():
            columns = arena.bind(table, slice(0, arena.rooms)).arrays
            self._tables[table] = Past([columns[name] for name in names], tick_hz=hz)
        self._words = heard.words.reshape(arena.rooms, -1, heard.words.shape[1])
        self._rooms = rooms
        self._known: list[object] = [None] * arena.rooms

    def remember(self, tick: int, states: Array) -> None:
        """Take the columns as they are after a tick, with the states of seats."""
        if not self._tables:
            return
        self._begin(tick)
        for past in self._tables.values():
            past.remember(tick)
            past.follow(tick, states)

    def rewind(self, table: type[Table], tick: int, ticks: Array, start: int) -> "Rewind":
        """What can be asked in a tick about rooms from `start` on; `ticks` are those of all."""
        self._begin(tick)
        past = self._tables[table]
        past.now = tick
        return Rewind(past, self._words[start:], ticks[start:], start)

    def _begin(self, tick: int) -> None:
        """Rooms that are not those of before have no past."""
        if self._known == self._rooms:
            return
        begun = [n for n, room in enumerate(self._rooms) if room is not self._known[n]]
        self._known[:] = self._rooms
        for past in self._tables.values():
            past.begin(tick, np.array(begun))


class Past:
    """One table's columns, of shape (rooms, rows), and what they were."""

    def __init__(self, columns: Sequence[Array], *, tick_hz: int) -> None:
        self._columns = columns
        self._rings = [np.zeros((TICKS, *column.shape), column.dtype) for column in columns]
        self._since = np.zeros(columns[0].shape, np.int64)
        self._states: Array | None = None
        self.now = 0
        """The tick under way, or the last one."""
        self.tick_hz = tick_hz
        self.most = min(TICKS - 2.0, MOST_S * tick_hz)
        """The longest delay, in ticks."""

    def remember(self, tick: int) -> None:
        """Take the columns as they are after a tick."""
        for ring, column in zip(self._rings, self._columns, strict=True):
            ring[tick % TICKS] = column

    def begin(self, tick: int, rooms: Array) -> None:
        """These rooms have no past before this tick."""
        self._since[rooms] = tick

    def follow(self, tick: int, states: Array) -> None:
        """Rows of seats whose players came or went have none either."""
        if states.shape != self._since.shape:
            return
        if self._states is None:
            self._states = states.copy()
        changed = self._states != states
        if np.count_nonzero(changed):
            np.copyto(self._since, tick, where=changed)
            self._states[...] = states

    def forget(self, rooms: Array, rows: Array) -> None:
        """These rows have jumped: nothing of before this tick counts."""
        self._since[rooms, rows] = self.now

    def at(self, rooms: Array, delay: Array) -> tuple[Array, ...]:
        """Each column of each of the rooms as it was so many ticks before the present one."""
        now = self.now
        ticks = np.minimum(np.maximum(np.nan_to_num(delay), 0.0), self.most)
        moment = np.minimum(np.maximum(now - ticks[:, None], self._since[rooms]), now)
        below = np.floor(moment).astype(np.int64)
        above, part = np.minimum(below + 1, now), moment - below
        rows = np.arange(moment.shape[1])
        found = []
        for ring, column in zip(self._rings, self._columns, strict=True):
            ring[now % TICKS] = column
            # As floats: the difference of two numbers without a sign would wrap.
            first = ring[below % TICKS, rooms[:, None], rows].astype(np.float64, copy=False)
            then = ring[above % TICKS, rooms[:, None], rows].astype(np.float64, copy=False)
            found.append(first + (then - first) * part)
        return tuple(found)


class Rewind:
    """What a tick of some rooms can ask about one table. See the module."""

    def __init__(self, past: Past, words: Array, ticks: Array, start: int) -> None:
        self._past = past
        self._words = words
        self._ticks = ticks
        self._start = start

    def delay(self, rooms: Array, seats: Array) -> Array:
        """By how many ticks what each seat's client drew lay behind the tick under way: 0 where it
        did not say."""
        said = self._words[rooms, seats]
        acked, view_ms = said[:, ACK_TICK], said[:, VIEW_MS]
        if not np.count_nonzero(view_ms):
            return np.zeros(len(said))
        ticks = self._ticks[rooms]
        seen = np.minimum(view_ms * self._past.tick_hz / 1000, acked)
        delay = np.minimum(np.maximum(ticks - seen, 0.0), self._past.most)
        return np.where(view_ms > 0, delay, 0.0)

    def at(self, rooms: Array, delay: Array) -> tuple[Array, ...]:
        """Each column of each of the rooms as it was so many ticks ago, of shape (rooms, rows)."""
        return self._past.at(rooms + self._start, delay)

    def forget(self, rooms: Array, rows: Array) -> None:
        """These rows have jumped: nobody can have seen them on the way."""
        self._past.forget(rooms + self._start, rows)
