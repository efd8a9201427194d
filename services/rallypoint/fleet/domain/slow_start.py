"""How many servers to create at once: 1, 2, 4 … 64, and none for a while after a failure.

A quota, a broken image or an admission webhook refuses the first and not the thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 64
HOLD_S = 30.0
HOLD_MOST_S = 600.0


@dataclass(frozen=True, slots=True)
class SlowStart:
    """How it went so far. Times are monotonic seconds."""

    batch: int = 1
    failures: int = 0
    held_until: float = float("-inf")

    def allowance(self, now: float) -> int:
        """Return how many may be created now."""
        return 0 if now < self.held_until else self.batch

    def succeeded(self, created: int) -> SlowStart:
        """A whole batch went well: the next may be twice as large."""
        if created < self.batch:
            return SlowStart(self.batch)
        return SlowStart(min(MOST, self.batch * 2))

    def failed(self, now: float) -> SlowStart:
        """One was refused: begin again, later each time."""
        hold = min(HOLD_MOST_S, HOLD_S * 2.0 ** min(self.failures, 16))
        return SlowStart(1, self.failures + 1, now + hold)
