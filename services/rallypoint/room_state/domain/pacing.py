"""When a table's ticks are due: absolute deadlines, so that the work of a tick never adds up.

Tick n is due at start + n * period. A table that fell behind steps up to five times at once and
then gives up the rest of its backlog, which is counted. Tables start at different phases of it.
"""

from typing import Final

MAX_CATCH_UP: Final = 5
EARLY_S: Final = 0.001
"""Loops count in milliseconds (uvloop) and may wake a task that much too early."""
GOLDEN: Final = 0.6180339887498949
"""Multiples of it, modulo 1, spread any number of tables evenly (Kronecker sequence)."""


class Pacer:
    """The deadlines of one table; times in seconds of a monotonic clock."""

    def __init__(self, period_s: float, index: int) -> None:
        self.period_s = period_s
        # Whole milliseconds, which is what loops count in: a tick is then neither early nor late.
        self._phase_s = round((index * GOLDEN % 1.0) * period_s, 3)
        self.deadline = 0.0
        self.dropped = 0

    @property
    def previous(self) -> float:
        """When the latest tick was due."""
        return self.deadline - self.period_s

    def start(self, now: float) -> None:
        """Set the first deadline: the next time of this table's phase."""
        periods = (now - self._phase_s) // self.period_s + 1
        self.deadline = periods * self.period_s + self._phase_s

    def due(self, now: float) -> int:
        """How many ticks to run now, and set the next deadline."""
        now += EARLY_S
        if now < self.deadline:
            return 0
        behind = int((now - self.deadline) // self.period_s) + 1
        self.deadline += behind * self.period_s
        self.dropped += max(0, behind - MAX_CATCH_UP)
        return min(behind, MAX_CATCH_UP)
