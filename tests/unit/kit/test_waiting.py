"""Who waits for an event for a while learns whether it came."""

import asyncio

from rallypoint.kit import waiting


def test_event_that_comes_is_told_from_one_that_does_not() -> None:
    async def scenario() -> None:
        event = asyncio.Event()
        assert not await waiting.happens(event, 0.0)
        asyncio.get_running_loop().call_later(0.01, event.set)
        assert not await waiting.happens(event, 0.001)
        assert await waiting.happens(event, None)
        assert await waiting.happens(event, 0.0)

    asyncio.run(scenario())
