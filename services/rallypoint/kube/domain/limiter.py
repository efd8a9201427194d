"""How many requests may be under way: grows by one a round, halves when the server says stop.

Additive increase, multiplicative decrease, as TCP does: many clients of one server end with equal
shares and none needs to be told a rate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Window:
    """An in-flight limit that follows what the server says."""

    least: float = 1.0
    most: float = 64.0
    limit: float = 16.0
    in_flight: int = 0
    decreased_at: float = float("-inf")

    def try_enter(self) -> bool:
        """Take a place if there is one."""
        if self.in_flight >= int(self.limit):
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1

    def succeeded(self) -> None:
        """Grow by one for each full round of answers."""
        self.limit = min(self.most, self.limit + 1.0 / self.limit)

    def refused(self, *, sent_at: float, now: float) -> None:
        """Halve, but once for all requests that were under way when it was last halved."""
        if sent_at < self.decreased_at:
            return
        self.limit = max(self.least, self.limit / 2.0)
        self.decreased_at = now
