"""Cancellation that a library swallowed, found and raised again.

nats-py and redis-py wait with `asyncio.wait_for`, which in Python 3.11 returns the answer and drops
a cancellation that comes at the same moment. The task then runs on, and whoever waits for its end
waits for ever. Ports compare the counts before and after: `with cancellation.kept(): await …`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Raise CancelledError at the end if the task was asked to cancel meanwhile."""
    before = _requests()
    try:
        yield
    finally:
        if _requests() > before:
            raise asyncio.CancelledError


def _requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
