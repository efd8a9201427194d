"""When a room will look at its inputs: the phase of its ticks, told by the frames that arrive.

An input is applied at the next tick, whenever it reaches the node before that. So it may wait here
for company until shortly before, and one request per tick carries the inputs of a whole table:
at 50 rooms of 8 players that is 20 requests a second to a node instead of 200.
"""

from __future__ import annotations

from dataclasses import dataclass

from rallypoint.gateway.domain import frames

NEVER = float("-inf")
STALE_PERIODS = 4
"""After so many ticks without a frame the phase is not believed."""


@dataclass(slots=True)
class Rhythm:
    """The ticks of one room. Times are seconds of one monotonic clock."""

    period_s: float = 0.0
    """Time between ticks; 0 while unknown."""
    seen_at: float = NEVER
    """When the latest frame arrived."""

    def wait_s(self, now: float, *, lead_s: float) -> float:
        """How long an input may wait to leave `lead_s` before the next tick; 0: send it now."""
        since = now - self.seen_at
        if since >= self.period_s * STALE_PERIODS:
            return 0.0
        wait = self.period_s - since % self.period_s - lead_s
        return wait if wait > 0 else 0.0


def margin_field(wait_s: float) -> bytes:
    """`ClientInput.margin_ms` of an input that may wait so long: ms, plus 1; absent: not known."""
    if wait_s <= 0:
        return b""
    margin_ms = int(wait_s * 1000) + 1
    return _MARGINS[margin_ms] if margin_ms < len(_MARGINS) else b""


_MARGINS = tuple(b"\x30" + frames.varint(number) for number in range(1 << 12))
"""Encoded beforehand: the ticks of a game are at most four seconds apart."""
