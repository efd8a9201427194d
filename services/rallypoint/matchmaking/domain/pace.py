"""When to match: at once when a full match may be there, in batches when many arrive.

A batch window buys closer matches only above about a hundred arrivals per second; below that,
waiting is all it does (matchmaking.md §2.4). So a cycle follows an arrival at once, unless
arrivals come fast; and a pool with searchers is looked at every `cycle_s` in any case, because
tolerances widen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BATCH_ABOVE_PER_S = 100.0
SMOOTHING_S = 1.0
PAUSE_S = 1.0
PAUSE_MAX_S = 8.0


@dataclass(slots=True)
class Pace:
    """The rhythm of one queue. Times are monotonic seconds."""

    cycle_s: float
    gap_s: float
    rate_per_s: float = 0.0
    arrivals: int = 0
    """Since the last cycle."""
    last_cycle: float = -math.inf
    not_before: float = -math.inf
    pause_s: float = 0.0

    def wait_s(self, now: float, *, searching: int, least: int, most: int) -> float:
        """Seconds until the next cycle; infinite when only an arrival can make one worthwhile."""
        if searching < least:
            return math.inf
        window = self.cycle_s
        if self.arrivals and searching >= most and self.rate_per_s < BATCH_ABOVE_PER_S:
            window = self.gap_s
        return max(0.0, self.last_cycle + window - now, self.not_before - now)

    def cycled(self, now: float) -> None:
        """Note that a cycle ran."""
        since = min(max(now - self.last_cycle, 1e-3), 10 * SMOOTHING_S)
        keep = math.exp(-since / SMOOTHING_S)
        self.rate_per_s = keep * self.rate_per_s + (1 - keep) * self.arrivals / since
        self.arrivals = 0
        self.last_cycle = now

    def failed(self, now: float) -> None:
        """Note that a match got no room: the next cycle waits, longer each time."""
        if now < self.not_before:
            return
        self.pause_s = min(PAUSE_MAX_S, max(PAUSE_S, 2 * self.pause_s))
        self.not_before = now + self.pause_s

    def succeeded(self) -> None:
        """Note that a match got a room."""
        self.pause_s, self.not_before = 0.0, -math.inf
