"""Cancellation that a library swallowed, found and raised again, or said until it is heard.

nats-py and redis-py wait with `asyncio.wait_for`, which in Python 3.11 returns the answer and drops
a cancellation that comes at the same moment. The task then runs on, and whoever waits for its end
waits for ever. Ports compare the counts before and after: `with cancellation.kept(): await …`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
REPEAT_S = 0.05


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Raise CancelledError at the end if the task was asked to cancel meanwhile."""
    before = _requests()
    try:
        yield
    finally:
        if _requests() > before:
            raise asyncio.CancelledError


async def insist(
    work: Coroutine[Any, Any, T],
    *,
    timeout_s: float,
    unless: asyncio.Future[None] | None = None,
) -> T:
    """Await `work` for so long, or until `unless` is done; after that TimeoutError, once it has
    ended.

    For a library that tries for ever in a loop: `asyncio.timeout` cancels once, and where the loop
    swallows that the caller hangs. Here the work is cancelled again until it heeds; it never
    outlives this call.
    """
    task = asyncio.get_running_loop().create_task(work, name="insisted")
    try:
        waited: set[asyncio.Future[Any]] = {task} if unless is None else {task, unless}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=REPEAT_S)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not complain


def _requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
