"""Channels for unary calls to room nodes, by address; what is streamed goes over `attach`."""

from __future__ import annotations

import grpc.aio

from rallypoint.kit import rpc


class NodeChannels:
    """One channel per address that was ever called."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def get(self, address: str) -> grpc.aio.Channel:
        """The channel to a node."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = rpc.channel(address, name="gateway")
        return channel

    async def close(self) -> None:
        """Close all."""
        for channel in self._channels.values():
            await channel.close()
