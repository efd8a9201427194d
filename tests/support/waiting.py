"""Waiting for what others bring about: processes, brokers and peers set no events of ours."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable


async def until(
    true: Callable[[], object], what: str = "", *, within_s: float = 30.0, every_s: float = 0.01
) -> None:
    """Wait until `true` returns something true, or something that is awaited as true.

    AssertionError, which tells `what` was missed, when that takes longer than `within_s`.
    """
    try:
        async with asyncio.timeout(within_s):
            while not await _result(true):  # noqa: ASYNC110  # whoever brings it about has no event
                await asyncio.sleep(every_s)
    except TimeoutError as error:
        raise AssertionError(f"not within {within_s:g} s: {what or 'the condition'}") from error


def wait_until(
    true: Callable[[], object], what: str, *, within_s: float = 30.0, every_s: float = 0.05
) -> None:
    """What `until` does, where no loop runs."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)


async def _result(true: Callable[[], object]) -> object:
    result = true()
    return await result if inspect.isawaitable(result) else result
