"""Which rooms take more time than a tick may cost: reported, then closed, so that others go on.

What counts is the time of a room's own hooks and of a `RoomGame`'s tick; a `ColumnGame`'s tick is
shared by its rooms. The clock is given by whoever runs the table.
"""

from collections.abc import Callable
from typing import Final

Clock = Callable[[], float]
REPORT: Final = 5
CLOSE: Final = 20
"""How many ticks more over than under the budget are told, and are too many."""


class TickBudget:
    """The time that rooms spend, tick by tick. Without a limit nothing is ever over."""

    def __init__(self, limit_s: float, clock: Clock) -> None:
        self.clock = clock
        self._limit_s = limit_s or float("inf")
        self._spent: dict[int, float] = {}
        self._over: dict[int, int] = {}

    def spend(self, room: int, seconds: float) -> None:
        """A room's code ran."""
        self._spent[room] = self._spent.get(room, 0.0) + seconds

    def settle(self) -> list[tuple[int, int]]:
        """The tick is over: rooms that have come to REPORT or to CLOSE, and to which."""
        found = []
        for room in [room for room in self._over if room not in self._spent]:
            self._spent[room] = 0.0
        for room, seconds in self._spent.items():
            if seconds > self._limit_s:
                over = self._over[room] = self._over.get(room, 0) + 1
                if over in (REPORT, CLOSE):
                    found.append((room, over))
            elif room in self._over:
                self._relent(room)
        self._spent.clear()
        return found

    def forget(self, room: int) -> None:
        """The room is gone."""
        self._spent.pop(room, None)
        self._over.pop(room, None)

    def _relent(self, room: int) -> None:
        self._over[room] -= 1
        if self._over[room] <= 0:
            del self._over[room]
