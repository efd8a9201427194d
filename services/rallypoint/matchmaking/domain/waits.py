"""How long a search takes: learned from the tickets matched last."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

KEPT = 64
"""Waits remembered; about the last ten matches of a busy queue, older ones say little."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a searching player is shown."""

    position: int
    searching: int
    estimated_wait_s: float | None
    rating_range: int
    needed: int
    step: int
    """Tolerance steps passed; one more than before means the search got wider."""


@dataclass(slots=True)
class WaitRecord:
    """The waits of the tickets matched last, in seconds."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, waited_s: float) -> None:
        """Remember one."""
        self.recent.append(max(0.0, waited_s))

    def typical_s(self) -> float | None:
        """The median; None while nothing is known."""
        return statistics.median(self.recent) if self.recent else None

    def left_s(self, waited_s: float) -> float | None:
        """The estimate after a wait: the median of what longer waits still had before them."""
        longer = [wait - waited_s for wait in self.recent if wait >= waited_s]
        return statistics.median(longer) if longer else None
