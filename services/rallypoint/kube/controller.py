"""Workers on a keyed queue: one coroutine per key at a time, back-off, no busy wait."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from rallypoint.kit import errors, metrics
from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.kube.domain.backoff import Backoff
from rallypoint.kube.domain.workqueue import DEFAULT_BACKOFF, Statistics, Workqueue

log = logging.getLogger(__name__)
K = TypeVar("K")
# Brings the world of one key nearer to what is wanted; a result is when to look again.
Reconcile = Callable[[K], Awaitable[float | None]]


class Controller(Generic[K]):
    """Calls `reconcile` for every key that is added until it succeeds."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile[K],
        *,
        workers: int = 4,
        backoff: Backoff = DEFAULT_BACKOFF,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._name = name
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock or SystemClock()
        self._queue: Workqueue[K] = Workqueue(rng or random.Random(), backoff=backoff)
        self._changed = asyncio.Event()

    def add(self, key: K) -> None:
        """Have a key looked at."""
        self._queue.add(key)
        self._changed.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key looked at later."""
        self._queue.add_at(key, self._clock.monotonic() + seconds)
        self._changed.set()

    def statistics(self) -> Statistics:
        """Return what is in the queue."""
        return self._queue.statistics()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self._name}-{number}")

    async def _work(self) -> NoReturn:
        while True:
            key = self._queue.take(self._clock.monotonic())
            if key is None:
                await self._sleep()
                continue
            try:
                again_s = await self._reconcile(key)
            except asyncio.CancelledError:
                self._queue.done(key)
                raise
            except Exception as error:
                self._failed(key, error)
            else:
                metrics.KUBE_RECONCILES.labels(self._name, "OK").inc()
                self._queue.done(key)
                if again_s is not None:
                    self.add_after(key, again_s)
            self._changed.set()  # what came meanwhile may be ready now

    def _failed(self, key: K, error: Exception) -> None:
        told = error if isinstance(error, errors.RallypointError) else None
        wait = self._queue.retry(
            key, self._clock.monotonic(), after_s=told.retry_after_s if told else None
        )
        outcome = told.reason if told else "RAISED"
        metrics.KUBE_RECONCILES.labels(self._name, outcome).inc()
        known = {"controller": self._name, "key": str(key), "wait_s": round(wait, 3)}
        if told is not None:
            log.info("reconcile failed: %s", told, extra=known)
        else:  # a bug: it is retried as well, but must be seen
            log.exception("reconcile raised", extra=known)

    async def _sleep(self) -> None:
        """Sleep until something is added or due."""
        self._changed.clear()
        due = self._queue.next_due()
        wait = None if due is None else max(0.0, due - self._clock.monotonic())
        try:
            async with asyncio.timeout(wait):
                await self._changed.wait()
        except TimeoutError:
            return
