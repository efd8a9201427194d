"""Listings end although what they were to deliver expires before it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.kit.bus_stream import HEARTBEAT_S, Feed

Fresh = Callable[[str], str]


class Overstated(Feed):
    """Says one more than comes: one that expired between the count and its turn."""

    async def open(self, *arguments: object, **named: object) -> int:
        """Make the consumer as it should be; tell one message too many."""
        return await super().open(*arguments, **named) + 1  # type: ignore[arg-type]


def test_listing_ends_and_goes_on_though_one_expired_before_its_turn(
    runs: Runs, connected: Connect, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            kv, key = bus.kv("config"), fresh("expired")
            await kv.put(f"{key}.a", b"1")
            async with Feed(bus) as sound, Overstated(bus) as short:
                told = kv._listing(sound, f"{key}.*", {})
                assert [(await anext(told)).key for _ in range(2)] == [f"{key}.a", ""]
                late = kv._listing(short, f"{key}.*", {"gone": 1})
                async with asyncio.timeout(5 * HEARTBEAT_S):
                    assert [(await anext(late)).key for _ in range(3)] == [f"{key}.a", "gone", ""]
                await asyncio.sleep(1.5 * HEARTBEAT_S)  # a heartbeat ends it once only
                await kv.put(f"{key}.b", b"2")
                assert (await anext(late)).key == f"{key}.b"

    runs(scenario())
