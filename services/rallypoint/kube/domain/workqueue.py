"""A queue of keys: each at most once in it and at most once in work, with a back-off of its own.

    add(k) ──▶ ready ──take──▶ working ──done──▶ (gone, or ready again if it was added meanwhile)
    retry(k): done, and ready again after the back-off of its failures, or at once if it was added

Level-triggered: five hundred events about one key while it is worked on are one more pass.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from rallypoint.kube.domain.backoff import Backoff

K = TypeVar("K")
DEFAULT_BACKOFF = Backoff(first_s=0.005, most_s=60.0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is in a queue."""

    ready: int
    waiting: int
    working: int
    failing: int


class Workqueue(Generic[K]):
    """The state of a keyed queue; `now` is monotonic seconds and always given."""

    def __init__(self, rng: random.Random, *, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._rng = rng
        self._backoff = backoff
        self._ready: OrderedDict[K, None] = OrderedDict()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = 0

    def add(self, key: K) -> None:
        """Have it worked on as soon as there is a hand; an appointed time no longer counts."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        else:
            self._ready[key] = None

    def add_at(self, key: K, due: float) -> None:
        """Have it worked on at a time, or earlier where an earlier time is appointed."""
        if key in self._ready or self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._serial += 1
        heapq.heappush(self._heap, (due, self._serial, key))

    def take(self, now: float) -> K | None:
        """Return the key that waits longest, to be given back by `done` or `retry`."""
        self._wake(now)
        if not self._ready:
            return None
        key, _ = self._ready.popitem(last=False)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """Give a key back that was worked on with success: its failures are forgotten."""
        self._failures.pop(key, None)
        self._give_back(key)

    def retry(self, key: K, now: float, *, after_s: float | None = None) -> float:
        """Give a key back that failed; return the wait, `after_s` where a server asked for more."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = max(self._backoff.delay(failures, self._rng), after_s or 0.0)
        self._give_back(key)  # what came meanwhile may be what it failed for: no wait then
        self.add_at(key, now + wait)
        return wait

    def forget(self, key: K) -> None:
        """Drop a key that no longer exists, unless it is in work."""
        self._failures.pop(key, None)
        self._due.pop(key, None)
        self._ready.pop(key, None)

    def next_due(self) -> float | None:
        """Return when the next appointed key is due, to know how long to sleep."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def statistics(self) -> Statistics:
        """Return what is in it."""
        return Statistics(len(self._ready), len(self._due), len(self._working), len(self._failures))

    def _wake(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            self.add(heapq.heappop(self._heap)[2])

    def _give_back(self, key: K) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._ready[key] = None
