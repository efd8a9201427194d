"""What players tell: times in whole milliseconds and failures by reason, drained in batches.

Thousands of inputs a second are too many to tell Locust one by one; counted by millisecond they
are a few hundred numbers a report.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any


class Tally:
    """Counts since the last `drain`, by transport and name."""

    def __init__(self) -> None:
        self._times: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self._failures: Counter[tuple[str, str, str]] = Counter()

    def took(self, transport: str, name: str, seconds: float, *, times: int = 1) -> None:
        """Something went well and took so long."""
        self._times[transport, name][round(seconds * 1e3)] += times

    def failed(self, transport: str, name: str, reason: str, *, times: int = 1) -> None:
        """Something went wrong."""
        self._failures[transport, name, reason] += times

    def drain(self) -> dict[str, Any]:
        """Everything so far, as JSON can carry it; then begin anew."""
        times, self._times = self._times, defaultdict(Counter)
        failures, self._failures = self._failures, Counter()
        return {
            "times": [[*key, list(counts.items())] for key, counts in times.items()],
            "failures": [[*key, count] for key, count in failures.items()],
        }
