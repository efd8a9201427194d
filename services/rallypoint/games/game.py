"""What a studio writes: a class of one of two styles over the same tables.

`ColumnGame` has one instance for all rooms of a process's table; its `on_tick` moves all of them at
once with numpy. `RoomGame` has one instance per room, which is `self`; simple, and right for games
with little to do per tick. Both get the same hooks, called in the room's own order, never
concurrently. A hook that raises closes its room with the reason GAME_ERROR; `Refused` is an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from rallypoint.games import messages, plain
from rallypoint.games.columns import Input, Table
from rallypoint.games.messages import Refused as Refused
from rallypoint.games.messages import message as message
from rallypoint.games.plugin import Plugin
from rallypoint.games.room import Room, Rooms, Seat

SERVER_MAX_PLAYERS: Final = 4096
Drained = Literal["migrate", "finish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GameInfo:
    """What the platform needs to know of a game."""

    name: str
    """[a-z0-9-]{1,32}; queues name it."""
    max_players: int
    """Seats of a room."""
    min_players: int = 1
    tick_hz: int = 20
    """Steps of the simulation per second."""
    send_hz: int = 0
    """Frames per second, a divisor of tick_hz; 0 is the same."""
    input_hz: int = 0
    """Inputs per second that clients should send; 0 is tick_hz, or none without an input."""
    max_kbps: float = 64.0
    """What a client is sent at most, about; what is far waits. For tables with cells; 0: any."""
    grace_s: float = 30.0
    """How long a seat is kept after its stream broke."""
    reserve_s: float = 30.0
    """How long a seat is kept for a player who never came."""
    tick_budget_ms: float = 20.0
    """Time that a room's hooks may take per tick; a room that is often over it is closed with the
    reason TICK_BUDGET, so that the others go on. 0: no limit."""
    late_join: bool = False
    """Whether players may take seats after the room was made: rooms by code, backfill."""
    max_age_s: float = 7200.0
    """A room that is older is closed with the reason ROOM_TOO_OLD."""
    title: str = ""
    version: str = "1"

    def __post_init__(self) -> None:
        if not 1 <= self.tick_hz <= 120:
            raise ValueError(f"{self.name}: tick_hz must be 1 to 120")
        if self.send_hz and self.tick_hz % self.send_hz:
            raise ValueError(f"{self.name}: send_hz must divide tick_hz")
        if self.tick_budget_ms < 0:
            raise ValueError(f"{self.name}: tick_budget_ms must not be negative")
        if not 1 <= self.min_players <= self.max_players <= SERVER_MAX_PLAYERS:
            raise ValueError(f"{self.name}: players must be 1 ≤ min ≤ max ≤ {SERVER_MAX_PLAYERS}")


class _Declared(messages.Answering):
    """What both styles declare."""

    info: ClassVar[GameInfo]
    tables: ClassVar[Sequence[type[Table]]] = ()
    input: ClassVar[type[Input] | None] = None
    plugins: ClassVar[Sequence[Plugin]] = ()
    """What the game takes from others, in the order in which it is asked."""
    rewinds: ClassVar[Mapping[type[Table], Sequence[str]]] = {}
    """Columns of numbers whose last ticks a column game can look back at (`rewind`)."""

    def _answer(self, kind: int, *arguments: Any) -> bytes:
        name = self.message_methods.get(kind)
        if name is None:
            raise Refused("MESSAGE_UNKNOWN", f"the game has no message {kind}")
        return getattr(self, name)(*arguments) or b""


class ColumnGame(_Declared):
    """A game whose tick works on all rooms at once; hooks other than the tick get one room."""

    def on_create(self, room: Room) -> None:
        """Set up a room; all its columns are zero. Raise Refused for options that make no sense."""

    def on_admit(self, room: Room, player: Seat) -> int | None:
        """Somebody wants a seat later: raise Refused to turn them away, or return their team;
        without one everybody is a team of their own. `player.slot` is the seat they would get."""
        return None

    def on_join(self, room: Room, seat: int) -> None:
        """A player came for the first time."""

    def on_drop(self, room: Room, seat: int) -> None:
        """A player's stream broke; the seat is kept for the grace time."""

    def on_rejoin(self, room: Room, seat: int) -> None:
        """A player is back."""

    def on_leave(self, room: Room, seat: int, reason: str) -> None:
        """A player is gone for good: LEFT, GRACE_EXPIRED or NO_SHOW."""

    def on_message(self, room: Room, seat: int, kind: int, body: bytes) -> bytes:
        """Answer a message; by default the method marked with `@message(kind)` does."""
        return self._answer(kind, room, seat, body)

    def on_tick(self, rooms: Rooms) -> None:
        """One step of all rooms. May be called again for single rooms after it raised."""

    def on_snapshot(self, room: Room) -> bytes:
        """What else to save of a room: columns, dice, timers and inputs are saved already."""
        return b""

    def on_restore(self, room: Room, data: bytes) -> None:
        """A room goes on in this object: its columns are back, `data` is what was saved."""

    def on_drain(self, room: Room, within_s: float) -> Drained:
        """The room's node is to be emptied: move, unseen by players, or finish the match there.

        A match that is not over in time moves all the same. 0 means that there is no hurry.
        """
        return "migrate"


class RoomGame(_Declared):
    """A game with one object per room: tables, seats, dice and timers are on `self.room`."""

    def __init__(self, room: Room) -> None:
        self.room = room

    def on_create(self) -> None:
        """Set up the room; all its columns are zero. Raise Refused for senseless options."""

    def on_admit(self, player: Seat) -> int | None:
        """Somebody wants a seat later: raise Refused to turn them away, or return their team;
        without one everybody is a team of their own. `player.slot` is the seat they would get."""
        return None

    def on_join(self, seat: int) -> None:
        """A player came for the first time."""

    def on_drop(self, seat: int) -> None:
        """A player's stream broke; the seat is kept for the grace time."""

    def on_rejoin(self, seat: int) -> None:
        """A player is back."""

    def on_leave(self, seat: int, reason: str) -> None:
        """A player is gone for good: LEFT, GRACE_EXPIRED or NO_SHOW."""

    def on_message(self, seat: int, kind: int, body: bytes) -> bytes:
        """Answer a message; by default the method marked with `@message(kind)` does."""
        return self._answer(kind, seat, body)

    def on_tick(self, dt_s: float) -> None:
        """One step of the room."""

    def on_snapshot(self) -> bytes:
        """What else to save of the room: by default the object's attributes, which must be plain
        values (docs/games.md); columns, dice, timers and inputs are saved already."""
        return plain.pack({name: value for name, value in vars(self).items() if name != "room"})

    def on_restore(self, data: bytes) -> None:
        """The room goes on in this object, instead of `on_create`: `data` is what was saved."""
        vars(self).update(plain.unpack(data))

    def on_drain(self, within_s: float) -> Drained:
        """The room's node is to be emptied: move, unseen by players, or finish the match there.

        A match that is not over in time moves all the same. 0 means that there is no hurry.
        """
        return "migrate"


Game = ColumnGame | RoomGame
