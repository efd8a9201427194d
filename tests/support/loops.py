"""Coroutines of tests, each on a loop of its own that is closed whatever happens.

The limit of a test ends the whole run (`timeout_method` in pyproject.toml says why), so a coroutine
is stopped `GRACE_S` earlier: it fails alone, tells where it waited, and cleans up after itself.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
import uvloop

Runs = Callable[[Coroutine[Any, Any, None]], None]

GRACE_S: Final = 60
GOODBYE_S: Final = 5.0
_KINDS = uvloop.loop.TCPTransport


def limit_s(request: pytest.FixtureRequest) -> float:
    """How long a test's coroutine may take."""
    marker = request.node.get_closest_marker("timeout")
    given = marker.args[0] if marker else request.config.getini("timeout")
    return float(given) - GRACE_S


async def _limited(coroutine: Coroutine[Any, Any, None], within_s: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within_s):
        await coroutine
    # A TLS connection whose request was cancelled says goodbye, which needs the loop.
    give_up = loop.time() + GOODBYE_S
    while _open_still() and loop.time() < give_up:  # noqa: ASYNC110  # the transport tells nobody
        await asyncio.sleep(0.1)


def _open_still() -> bool:
    return any("closed=False" in repr(one) for one in gc.get_objects() if isinstance(one, _KINDS))


def run(coroutine: Coroutine[Any, Any, None], *, within_s: float) -> None:
    """Run it to its end; TimeoutError in time, AssertionError when it left a connection open.

    uvloop waits for ever for a transport whose warning is an error, as all are here: a test that
    failed before it closed something would hang, and take the whole run with it.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(_limited(coroutine, within_s))
    finally:
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            runner.close()
    open_still = [str(warning.message) for warning in left]
    assert not open_still, open_still
