"""Channels to nodes that come and go: used again, closed when idle, never too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from rallypoint.gateway import node_channels
from rallypoint.gateway.node_channels import NodeChannels


@dataclass
class Time:
    """A clock set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def played(scenario: Callable[[NodeChannels, Time], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        time = Time()
        channels = NodeChannels(clock=time, most=3)
        await scenario(channels, time)
        await channels.close()

    asyncio.run(play())


def is_closed(channel: grpc.aio.Channel) -> bool:
    return channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


def test_idle_channel_is_closed_and_made_anew() -> None:
    async def scenario(channels: NodeChannels, time: Time) -> None:
        used, idle = channels.get("node-1:1"), channels.get("node-2:1")
        time.now = node_channels.IDLE_S - 1
        assert channels.get("node-1:1") is used
        time.now = node_channels.IDLE_S
        await channels.sweep()
        assert (is_closed(used), is_closed(idle), len(channels)) == (False, True, 1)
        assert not is_closed(channels.get("node-2:1"))

    played(scenario)


def test_of_too_many_the_one_used_longest_ago_is_closed() -> None:
    async def scenario(channels: NodeChannels, time: Time) -> None:
        first, second = channels.get("node-1:1"), channels.get("node-2:1")
        assert channels.get("node-1:1") is first
        for number in range(3, 5):
            channels.get(f"node-{number}:1")
        assert len(channels) == 3
        await channels.sweep()
        assert (is_closed(first), is_closed(second)) == (False, True)

    played(scenario)
