"""When to send inputs: shortly before the tick that applies them, whatever the way's length.

An input that comes too late for a tick waits for the next, so its margin says how far from the best
moment it was sent. The clock turns slowly toward it; how early it aims depends on how much margins
differ from each other, and is at most one tick.

    clock = SendClock(tick_s=1 / welcome.tick_hz)
    clock.observe(seat.margin_ms / 1000)        # about once a second
    due_s += period_s + clock.shift_s()         # for each input
"""

from __future__ import annotations

LEAST_MARGIN_S = 0.008
JITTERS = 2.5
GAIN = 0.3
MOST_SHIFT_S = 0.002
"""By how much one input may be moved against the one before: nobody feels that."""


class SendClock:
    """Shifts of one's inputs. No I/O, no clock."""

    def __init__(self, *, tick_s: float) -> None:
        self._tick_s = tick_s
        self._jitter_s = 0.0
        self._before_s: float | None = None
        self._owed_s = 0.0

    @property
    def aim_s(self) -> float:
        """The margin that it goes for."""
        return min(self._tick_s, LEAST_MARGIN_S + JITTERS * self._jitter_s)

    def observe(self, margin_s: float) -> None:
        """Take the margin of an input."""
        if self._before_s is not None:
            apart = abs(self._wrapped(margin_s - self._before_s))
            self._jitter_s += (apart - self._jitter_s) * GAIN
        self._before_s = margin_s
        self._owed_s = self._wrapped(margin_s - self.aim_s) * GAIN

    def shift_s(self) -> float:
        """How much later than planned the next input should be sent; below 0: earlier."""
        shift = max(-MOST_SHIFT_S, min(MOST_SHIFT_S, self._owed_s))
        self._owed_s -= shift
        return shift

    def _wrapped(self, apart_s: float) -> float:
        """The short way: margins go round with the ticks."""
        half = self._tick_s / 2
        return (apart_s + half) % self._tick_s - half
