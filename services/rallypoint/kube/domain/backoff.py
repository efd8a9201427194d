"""How long to wait before the next try."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow by `factor` from `first_s` to `most_s`, each shortened by up to `jitter`.

    Jitter keeps clients apart that failed at the same moment, as all do when a server restarts.
    """

    first_s: float
    most_s: float
    factor: float = 2.0
    jitter: float = 0.5

    def delay(self, failures: int, rng: random.Random) -> float:
        """Return the wait after this many failures in a row (the first is 1)."""
        # The exponent is bounded, or a long outage would overflow a float.
        grown = self.first_s * self.factor ** min(max(failures - 1, 0), 64)
        return min(grown, self.most_s) * (1.0 - self.jitter * rng.random())


def retry_after(asked_s: float, rng: random.Random) -> float:
    """Return what a server asked for, and up to a quarter more: never less."""
    return asked_s * (1.0 + 0.25 * rng.random())
