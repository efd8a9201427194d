"""Channels for unary calls to room nodes, by address; what is streamed goes over `attach`.

Nodes come and go, each at an address of its own: a channel that nobody uses is closed, and there
are never more than so many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import grpc.aio

from rallypoint.kit import rpc

IDLE_S: Final = 60.0
MOST: Final = 256
GRACE_S: Final = 10.0
"""Longer than any call that a channel which is closed may still carry."""


class NodeChannels:
    """One channel per address that was called lately."""

    def __init__(self, *, clock: Callable[[], float], most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._channels: dict[str, grpc.aio.Channel] = {}
        """The one that was used last comes last."""
        self._used_at: dict[str, float] = {}
        self._dropped: list[grpc.aio.Channel] = []

    def __len__(self) -> int:
        return len(self._channels)

    def get(self, address: str) -> grpc.aio.Channel:
        """The channel to a node, for a call that begins now."""
        channel = self._channels.pop(address, None) or rpc.channel(address, name="gateway")
        self._channels[address] = channel
        self._used_at[address] = self._clock()
        if len(self._channels) > self._most:
            self._drop(next(iter(self._channels)))
        return channel

    async def run(self) -> None:
        """Close what is idle, for ever."""
        while True:
            await asyncio.sleep(IDLE_S / 4)
            await self.sweep()

    async def sweep(self) -> None:
        """Close what is idle."""
        idle_since = self._clock() - IDLE_S
        for address in [a for a, used_at in self._used_at.items() if used_at <= idle_since]:
            self._drop(address)
        dropped, self._dropped = self._dropped, []
        await asyncio.gather(*(channel.close(GRACE_S) for channel in dropped))

    def _drop(self, address: str) -> None:
        del self._used_at[address]
        self._dropped.append(self._channels.pop(address))

    async def close(self) -> None:
        """Close all."""
        for channel in [*self._channels.values(), *self._dropped]:
            await channel.close()
