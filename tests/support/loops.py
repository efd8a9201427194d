"""Coroutines of tests, each on a loop of its own that is closed whatever happens."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine
from typing import Any

import uvloop


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it to its end; AssertionError when it left a connection open.

    uvloop waits for ever for a transport whose warning is an error, as all are here: a test that
    failed before it closed something would hang, and take the whole run with it.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(coroutine)
    finally:
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            runner.close()
    open_still = [str(warning.message) for warning in left]
    assert not open_still, open_still
