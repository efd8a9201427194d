"""Rooms through a real gateway: joining, frames, inputs at any gateway, replaced and lost streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from rallypoint.cli.brokers import Brokers
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2
from tests.integration.conftest import Runs
from tests.integration.gateway_peer import Peer, PeerRoom
from tests.integration.gateway_stack import ROOM, Player, Running, gateway, settings, until

Fresh = Callable[[str], str]
TOKEN = b"seat-token-of-slot-0"
OTHER = b"seat-token-of-slot-1"


async def a_room(peer: Peer, running: Running, room_id: str, *, epoch: int = 1) -> PeerRoom:
    room = PeerRoom(room_id, epoch=epoch, tokens={TOKEN: 0, OTHER: 1})
    await peer.own(running.runtime.bus, room)
    return room


def test_join_brings_welcome_keyframe_then_deltas(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Peer() as peer, gateway(brokers, settings(tmp_path)) as running:
            room = await a_room(peer, running, fresh("room"))
            player = await Player(running.url, b"1" * 16).open()
            watched = await player.join(room.room_id, TOKEN)
            for _ in range(3):
                peer.tick(room, data=b"x")
            await until(lambda: len(watched.frames()) == 3)
            assert watched.welcome.slot == 0
            assert watched.welcome.stream_token
            assert [frame.base_tick for frame in watched.frames()] == [0, 1, 2]
            assert [frame.tick for frame in watched.frames()] == [1, 2, 3]
            watched.close()
            await until(lambda: not room.held)
            await player.channel.close()

    runs(scenario())
