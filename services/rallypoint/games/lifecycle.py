"""How a room begins and how it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rallypoint.games.room import Outcome, Seat

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


class GameFailed(Exception):
    """A hook raised; its room has ended with GAME_ERROR."""
