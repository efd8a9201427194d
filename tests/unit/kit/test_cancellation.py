"""A cancellation that a library swallows still ends the task."""

from __future__ import annotations

import asyncio

import pytest

from rallypoint.kit import cancellation


async def swallowing() -> str:
    """What wait_for of Python 3.11 does when answer and cancellation come together."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "answer"
    return "late"


def test_a_swallowed_cancellation_is_raised() -> None:
    async def scenario() -> None:
        async def work() -> str:
            with cancellation.kept():
                return await swallowing()

        task = asyncio.create_task(work(), name="work")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_answers_and_errors_pass() -> None:
    async def scenario() -> None:
        with cancellation.kept():
            await asyncio.sleep(0)
        with pytest.raises(KeyError), cancellation.kept():
            raise KeyError

    asyncio.run(scenario())


def test_a_timeout_stays_a_timeout() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(0.01):
            with cancellation.kept():
                await swallowing()

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())


def test_work_that_swallows_a_cancellation_is_told_again() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard += 1

    with pytest.raises(TimeoutError):
        asyncio.run(cancellation.insist(deaf(), timeout_s=0.01))
    assert heard == 3


def test_work_in_time_returns_its_value() -> None:
    async def quick() -> str:
        return "done"

    assert asyncio.run(cancellation.insist(quick(), timeout_s=5)) == "done"
