"""Wait for an event, but not for ever."""

from __future__ import annotations

import asyncio


async def happens(event: asyncio.Event, within_s: float | None) -> bool:
    """Wait until the event is set, at most so long (None: for ever); whether it is."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        pass  # it may have come in the same turn of the loop
    return event.is_set()
