"""The room as a game sees it: one (`Room`), or many at once in a column game's tick (`Rooms`).

Both only write into columns and into a list of effects; the engine commits those after the hook
returned, and throws them away when it raised.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from rallypoint.games import metadata
from rallypoint.games.columns import Input, Table
from rallypoint.games.dice import Dice
from rallypoint.games.schema import Array

if TYPE_CHECKING:
    from rallypoint.games.rewind import Rewind

MAX_SAID_BYTES: Final = 4096
T = TypeVar("T", bound=Table)
I = TypeVar("I", bound=Input)  # noqa: E741  # the letter of Input
Bind = Callable[[type[Table]], Table]


class SeatState(IntEnum):
    """The `state` column of table `seats`."""

    EMPTY = 0
    RESERVED = 1
    CONNECTED = 2
    DROPPED = 3
    LEFT = 4


@dataclass(frozen=True, slots=True)
class Seat:
    """Who has a seat."""

    slot: int
    player_id: str
    display_name: str
    team: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """How one seat did; rank 1 is best and equal ranks are a draw."""

    slot: int
    rank: int
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a match."""

    placements: tuple[Placement, ...]
    rated: bool = True


@dataclass(frozen=True, slots=True)
class Emitted:
    """An event without its id yet."""

    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A message to one seat, or to all but one; to those whose player is there."""

    kind: int
    body: bytes
    to: int | None = None
    but: int | None = None


@dataclass(slots=True)
class Effects:
    """What a hook wants to happen to one room."""

    events: list[Emitted] = field(default_factory=list)
    outcome: Outcome | None = None
    close_reason: str = ""
    kicks: list[tuple[int, str]] = field(default_factory=list)
    timers: list[tuple[float, str]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    locked: bool | None = None
    metadata: Mapping[str, str] | None = None
    backfill: int | None = None


class Room:
    """One room: `options` is what the queue's configuration says, `seats` who was matched.

    `seat_states` has a `SeatState` per seat; it is the platform's, so read it only. `locked`,
    `metadata` and `backfill` are as the hooks before this one left them. `seats` grows as players
    come later.
    """

    def __init__(
        self,
        *,
        id: str,
        options: Mapping[str, Any],
        seats: Sequence[Seat],
        bind: Bind,
        bind_input: Callable[[], Input],
        states: Array,
        dice: Dice,
        tick_hz: int,
    ) -> None:
        self.id = id
        self.options = options
        self.seats = tuple(seats)
        self.seat_states = states
        self.dice = dice
        self.dt_s = 1.0 / tick_hz
        self.effects = Effects()
        self.locked = False
        self.backfill = 0
        self.metadata: Mapping[str, str] = {}
        self.tick = 0
        self.first_tick = 0
        self._bind = bind
        self._bind_input = bind_input
        self._tables: dict[type[Table], Any] = {}

    @property
    def age_s(self) -> float:
        """Seconds of simulation since the room was made."""
        return (self.tick - self.first_tick) * self.dt_s

    def table(self, table: type[T]) -> T:
        """A table of this room: arrays of shape (rows,), read and written in place."""
        bound: Any = self._tables.get(table)
        if bound is None:
            bound = self._tables[table] = self._bind(table)
        return bound  # type: ignore[no-any-return]  # its key is its type

    def input(self, kind: type[I]) -> I:
        """The current input of each seat: arrays of shape (seats,)."""
        bound = self._bind_input()
        if not isinstance(bound, kind):
            raise TypeError(f"the game declares {type(bound).__name__} as its input")
        return bound

    def emit(self, kind: int, body: bytes = b"") -> None:
        """Tell all clients that something happened: reliable, in order, once."""
        self.effects.events.append(Emitted(kind, body))

    def send(self, seat: int, kind: int, body: bytes = b"") -> None:
        """Send a message to one player at once. Who is not there misses it."""
        self.effects.said.append(Said(kind, _checked(body), to=seat))

    def broadcast(self, kind: int, body: bytes = b"", *, but: int | None = None) -> None:
        """Send a message at once to all players who are there, except to seat `but`. What nobody
        may miss is an event (`emit`) or stands in a table."""
        self.effects.said.append(Said(kind, _checked(body), but=but))

    def finish(self, placements: Sequence[Placement], *, rated: bool = True) -> None:
        """End the match with a result. The first call counts."""
        if self.effects.outcome is None:
            self.effects.outcome = Outcome(tuple(placements), rated)

    def close(self, reason: str) -> None:
        """End the room without a result."""
        self.effects.close_reason = reason

    def kick(self, seat: int, reason: str) -> None:
        """Take a seat away."""
        self.effects.kicks.append((seat, reason))

    def lock(self) -> None:
        """Let nobody new in; who has a seat may come back."""
        self.effects.locked = True

    def unlock(self) -> None:
        """Let players in again."""
        self.effects.locked = False

    def request_backfill(self, seats: int) -> None:
        """Ask the room's queue for so many more players in all, until they have come; 0: for none
        any more. They get empty seats, so there are never more than those."""
        self.effects.backfill = _wanted(seats, len(self.seat_states))

    def set_metadata(self, values: Mapping[str, object]) -> None:
        """Say what the list of rooms shows of this one, in place of what it showed; ValueError for
        more than 16 entries or 1 KiB."""
        self.effects.metadata = metadata.checked(values)

    def after(self, seconds: float, method: str) -> None:
        """Call the game's method of that name once, `seconds` of simulation from now."""
        self.effects.timers.append((seconds, method))


class Rooms:
    """Many rooms at once: arrays have a leading axis of rooms, some of which may not be `live`.

    `age_s` has the seconds each room has run, `tick` the number of its tick (the frame's number),
    `connected` tells for each seat whether its player is there, `taken` how many inputs it got.
    """

    def __init__(
        self,
        *,
        bind: Bind,
        bind_input: Callable[[], Input],
        dice: Dice,
        live: Array,
        first_tick: Array,
        tick: Array,
        dt_s: float,
        states: Array,
        taken: Array,
        room: Callable[[int], Room],
        rewind: Callable[[type[Table]], "Rewind"],
    ) -> None:
        self.rewind = rewind
        """How a table was that the game named in `rewinds`."""
        self.live = live
        self.tick = tick
        self.dt_s = dt_s
        self.dice = dice
        self.states = states
        self.taken = taken
        self.begin()
        self._first_tick = first_tick
        self._bind = bind
        self._bind_input = bind_input
        self._room = room

    def begin(self) -> None:
        """Nothing has happened yet in this tick."""
        self.effects: dict[int, Effects] = {}
        self.failures: dict[int, Exception] = {}
        self.spent: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.live)

    @property
    def age_s(self) -> Array:
        """Seconds each room has run."""
        return np.asarray((self.tick - self._first_tick) * self.dt_s)

    @property
    def connected(self) -> Array:
        """For each room and seat, whether its player is there."""
        return np.asarray(self.states == SeatState.CONNECTED)

    def table(self, table: type[T]) -> T:
        """A table: arrays of shape (rooms, rows), read and written in place."""
        return self._bind(table)  # type: ignore[return-value]  # bind gives what it was asked for

    def input(self, kind: type[I]) -> I:
        """The current inputs: arrays of shape (rooms, seats)."""
        bound = self._bind_input()
        if not isinstance(bound, kind):
            raise TypeError(f"the game declares {type(bound).__name__} as its input")
        return bound

    def room(self, index: int) -> Room:
        """One of them, to read its seats and options. Use this object's own emit and finish."""
        return self._room(index)

    def emit(self, index: int, kind: int, body: bytes = b"") -> None:
        """Tell all clients of a room that something happened."""
        self._effects(index).events.append(Emitted(kind, body))

    def finish(self, index: int, placements: Sequence[Placement], *, rated: bool = True) -> None:
        """End a room's match with a result."""
        self._effects(index).outcome = Outcome(tuple(placements), rated)

    def close(self, index: int, reason: str) -> None:
        """End a room without a result."""
        self._effects(index).close_reason = reason

    def kick(self, index: int, seat: int, reason: str) -> None:
        """Take a seat of a room away."""
        self._effects(index).kicks.append((seat, reason))

    def lock(self, index: int) -> None:
        """Let nobody new into a room."""
        self._effects(index).locked = True

    def unlock(self, index: int) -> None:
        """Let players into a room again."""
        self._effects(index).locked = False

    def request_backfill(self, index: int, seats: int) -> None:
        """Ask a room's queue for so many more players."""
        self._effects(index).backfill = _wanted(seats, self.states.shape[1])

    def _effects(self, index: int) -> Effects:
        return self.effects.setdefault(int(index), Effects())

    def absorb(self, index: int) -> None:
        """Take over what was done on `room(index)` itself."""
        room = self._room(index)
        done, room.effects = room.effects, Effects()
        mine = self._effects(index)
        mine.events += done.events
        mine.kicks += done.kicks
        mine.timers += done.timers
        mine.said += done.said
        mine.outcome = mine.outcome or done.outcome
        mine.close_reason = mine.close_reason or done.close_reason
        mine.locked = mine.locked if done.locked is None else done.locked
        mine.metadata = mine.metadata if done.metadata is None else done.metadata
        mine.backfill = mine.backfill if done.backfill is None else done.backfill


def _checked(body: bytes) -> bytes:
    if len(body) > MAX_SAID_BYTES:
        raise ValueError(f"a message has at most {MAX_SAID_BYTES} bytes")
    return bytes(body)


def _wanted(seats: int, most: int) -> int:
    """A number of players as it may be stored; TypeError when a game's sum is no whole one."""
    try:
        return min(max(0, operator.index(seats)), most)
    except TypeError as error:
        raise TypeError(f"a room asks for a whole number of players, not {seats!r}") from error


def ranked(scores: Mapping[int, float]) -> list[Placement]:
    """Placements by score, highest first; equal scores share a rank (1, 2, 2, 4)."""
    ordered = sorted(scores.values(), reverse=True)
    return [Placement(slot, ordered.index(score) + 1, score) for slot, score in scores.items()]
