"""Waiting before the next try: full jitter between nothing and a limit that doubles."""

from __future__ import annotations

import asyncio
import random

FIRST_S = 0.25
MOST_S = 8.0


class Backoff:
    """The pauses of one thing that is tried again; `reset` after it worked."""

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._limit_s = FIRST_S

    def reset(self) -> None:
        """Start from the shortest pause again."""
        self._limit_s = FIRST_S

    def next_s(self, at_least_s: float | None = None) -> float:
        """Seconds to wait; `at_least_s` is what the server asked for."""
        pause_s = self._rng.uniform(0.0, self._limit_s)
        self._limit_s = min(self._limit_s * 2, MOST_S)
        return pause_s + (at_least_s or 0.0)

    async def pause(self, at_least_s: float | None = None) -> None:
        """Wait that long."""
        await asyncio.sleep(self.next_s(at_least_s))
