"""How a room begins and how it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rallypoint.games.rates import Limiter
from rallypoint.games.room import Outcome, Room, Said, Seat

GAME_ERROR: Final = "GAME_ERROR"
TICK_BUDGET: Final = "TICK_BUDGET"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSpec:
    """What a room is made from."""

    id: str
    seats: Sequence[Seat]
    options: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 1
    seed: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """A room that is over: with an outcome, or with a reason; `error` is what a hook raised."""

    slot: int
    outcome: Outcome | None = None
    reason: str = ""
    error: Exception | None = None


class Decisions:
    """What the rooms of a table want to happen outside it, until somebody takes it up."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        self._kicks: list[tuple[int, int, str]] = []
        self._said: list[tuple[int, Said]] = []
        self._slow: list[int] = []

    def take_ended(self) -> list[Ended]:
        """Rooms that ended since the last call, each once."""
        ended, self._ended = self._ended, []
        return ended

    def take_kicks(self) -> list[tuple[int, int, str]]:
        """Seats (slot, seat, reason) that games took away since the last call."""
        kicks, self._kicks = self._kicks, []
        return kicks

    def take_said(self) -> list[tuple[int, Said]]:
        """What games said to players who are there, by slot, since the last call."""
        said, self._said = self._said, []
        return said

    def take_slow(self) -> list[int]:
        """Slots of rooms that were often over their tick budget, each once, since the last call."""
        slow, self._slow = self._slow, []
        return slow


class GameFailed(Exception):
    """A hook raised; its room has ended with GAME_ERROR."""


@dataclass(slots=True)
class Open:
    """A room and what the engine keeps of it outside the arena."""

    room: Room
    ended: bool = False
    timers: list[tuple[int, str]] = field(default_factory=list)
    limiter: Limiter = field(default_factory=lambda: Limiter({}))
