"""Who falls behind, told by the ticks that clients acknowledge with their inputs (rooms.md §4.6).

A client's lag is the room's tick less the one it acknowledged: its way there and back, and whatever
waits on the way, also where no gateway can see it (proxies, the kernel, the browser). How long the
way is differs, so what counts is the lag beyond the least one seen lately, and beyond what most of
a crowd have at once: that is the servers' own doing. All seats of a table are looked at in columns,
a few times a second; clients that send no inputs are left alone.

    FULL ──over `half` for a second─────▶ HALF ──over `hold`──▶ HOLD ──has read all──▶ HALF
    FULL ◀──near its least for 2 s──────── HALF
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import numpy as np

from rallypoint.games.schema import Array

LOOKS_PER_S: Final = 4
LATE_LOOKS: Final = LOOKS_PER_S
CALM_LOOKS: Final = 2 * LOOKS_PER_S
STILL_LOOKS: Final = 6
"""After so many looks at the same acknowledgement nothing is on its way any more."""
CROWD: Final = 8
"""So many seats are needed to tell what they share."""
LEAK: Final = 0.05
"""By how much the least lag is forgotten at each look, in ticks: routes change."""


class Pace(IntEnum):
    """What a client can take, as `ClientPace` numbers it."""

    FULL = 1
    HALF = 2
    HOLD = 3


class Lags:
    """The seats of one table."""

    def __init__(self, count: int, *, tick_hz: int, ticks_per_frame: int = 1) -> None:
        self.half_ticks = max(5 * ticks_per_frame, tick_hz // 4)
        self.hold_ticks = max(32, tick_hz * 8 // 5)
        self._calm_ticks = self.half_ticks + 2 * ticks_per_frame  # who is halved hears later
        self._slack = 4 * ticks_per_frame
        self.pace = np.full(count, Pace.FULL, np.int8)
        self._least = np.full(count, np.inf)
        self._calls = np.zeros(count, np.int64)
        self._acks = np.zeros(count, np.int64)
        self._held_at = np.zeros(count, np.int64)
        self._late = np.zeros(count, np.int16)
        self._calm = np.zeros(count, np.int16)
        self._still = np.zeros(count, np.int16)
        self._strained = False
        """Whether anybody was late at the last look, or does not get every frame."""

    def forget(self, seats: slice) -> None:
        """A stream begins, or goes on elsewhere: it gets every frame until it is seen to lag."""
        self.pace[seats] = Pace.FULL
        self._least[seats] = np.inf
        for numbers in (self._acks, self._late, self._calm, self._still):
            numbers[seats] = 0

    def look(self, ticks: Array, acks: Array, calls: Array) -> Iterator[tuple[int, Pace]]:
        """Take the rooms' ticks, the acknowledged ones and how many calls there were, by seat; who
        gets every frame again, and all who do not."""
        heard = (calls != self._calls) & (acks > 0)
        self._calls[:] = calls
        (at,) = heard.nonzero()
        if not len(at):
            return
        over = self._beyond_least(at, ticks[at] - acks[at])
        if not self._strained and over.max() <= self.half_ticks:
            return  # nobody is late, and nothing that was counted is asked for
        if len(at) >= CROWD:
            middle = len(over) // 2
            over -= np.partition(over, middle)[middle]  # np.median imports numpy.ma, in a tick
        self._note(at, over, acks[at])
        pace = self.pace[at]
        held = (pace != Pace.HOLD) & (over > self.hold_ticks)
        halved = (pace == Pace.FULL) & ~held & (self._late[at] >= LATE_LOOKS)
        read = (acks[at] >= self._held_at[at] - self._slack) | (self._still[at] >= STILL_LOOKS)
        freed = (pace == Pace.HOLD) & read
        restored = (pace == Pace.HALF) & ~held & (self._calm[at] >= CALM_LOOKS)
        self._held_at[at[held]] = ticks[at[held]]
        self._still[at[held]] = 0
        self.pace[at[halved | freed]] = Pace.HALF
        self.pace[at[held]] = Pace.HOLD
        self.pace[at[restored]] = Pace.FULL
        self._calm[at[held | freed]] = 0
        self._strained = bool(self._late.any() or (self.pace != Pace.FULL).any())
        for seat in at[restored | (self.pace[at] != Pace.FULL)].tolist():
            yield seat, Pace(self.pace[seat])

    def _beyond_least(self, at: Array, lag: Array) -> Array:
        """The lag beyond each seat's least one."""
        self._least[at] = least = np.minimum(self._least[at] + LEAK, lag)
        over: Array = lag - least
        return over

    def _note(self, at: Array, over: Array, acks: Array) -> None:
        late = over > self.half_ticks
        self._late[at] = np.where(late, self._late[at] + 1, 0)
        self._calm[at] = np.where(over < self._calm_ticks, self._calm[at] + 1, 0)
        self._still[at] = np.where(acks == self._acks[at], self._still[at] + 1, 0)
        self._acks[at] = acks
