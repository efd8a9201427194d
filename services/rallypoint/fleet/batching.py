"""Many small calls, one round trip: what is asked while a batch is under way goes with the next.

Nothing waits for company: a call that finds nothing under way leaves at once. Under load batches
grow by themselves, so that a broker's round trip is shared by all who came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Later = Callable[[Coroutine[Any, Any, None], str], None]
"""Runs a coroutine in the background, by name."""
MOST = 128


class Batcher(Generic[T, R]):
    """Gathers calls. `flush` answers a batch in its order, or raises for all of it."""

    def __init__(
        self, flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, later: Later, name: str
    ) -> None:
        self._flush = flush
        self._later = later
        self._name = name
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running = False

    async def __call__(self, item: T) -> R:
        """Return what `flush` answers to the item. Cancelled, the item may go all the same."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._running = True
            self._later(self._run(), self._name)
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._one(batch)
        finally:
            self._running = False
            for _, future in self._waiting:  # only when the process ends
                future.cancel()
            self._waiting.clear()

    async def _one(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        wanted = [(item, future) for item, future in batch if not future.done()]
        if not wanted:
            return
        try:
            answers = await self._flush([item for item, _ in wanted])
        except asyncio.CancelledError:
            for _, future in wanted:
                future.cancel()
            raise
        except Exception as error:  # each caller's to deal with, as if it had asked alone
            for _, future in wanted:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(wanted, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
