"""How often a player may send messages of a kind: "5/s", "30/min", "3/2s".

Counted in the room's own time, its ticks, so that it needs no clock and a test none either. A rate
allows its number at once and then again as its time passes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rallypoint.kit import errors

_TEXT: Final = re.compile(r"(\d+)/(\d*)(s|min)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: float


def parse(text: str) -> Rate:
    """The rate of a text; ValueError for what is none."""
    found = _TEXT.fullmatch(text)
    if found is None or int(found[1]) == 0 or found[2] == "0":
        raise ValueError(f"a rate looks like 5/s or 30/min, not {text!r}")
    return Rate(int(found[1]), int(found[2] or 1) * (60.0 if found[3] == "min" else 1.0))


class Limiter:
    """The rates of one room's messages: per seat and kind, the time when its number is full."""

    def __init__(self, rates: Mapping[int, Rate]) -> None:
        self._rates = rates
        self._full_at: dict[tuple[int, int], float] = {}

    def take(self, seat: int, kind: int, now_s: float) -> None:
        """Count a message; ResourceExhausted MESSAGE_RATE, with the time to wait, beyond."""
        rate = self._rates.get(kind)
        if rate is None:
            return
        full_at = max(self._full_at.get((seat, kind), 0.0), now_s) + rate.seconds / rate.count
        wait_s = full_at - now_s - rate.seconds
        if wait_s > 1e-9:
            raise errors.ResourceExhausted(
                "MESSAGE_RATE", "too many messages of this kind", retry_after_s=wait_s
            )
        self._full_at[seat, kind] = full_at
