"""A node that speaks again after a long silence may have lost its rooms, and not know it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.conftest import Runs
from tests.integration.gateway_peer import Peer, PeerRoom, seated, ticked
from tests.integration.gateway_stack import Running, Watched, gateway, settings
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.gateway.rooms_sweep import DOUBTFUL_S

Fresh = Callable[[str], str]
SILENCE_S = DOUBTFUL_S + 0.7


@asynccontextmanager
async def after_silence(
    brokers: Brokers, fresh: Fresh, data_dir: Path, *, speaks: bool = True
) -> AsyncIterator[tuple[Running, Peer, PeerRoom, Watched]]:
    """A player whose node was silent, and has just spoken again if it `speaks`."""
    async with (
        Peer() as peer,
        gateway(brokers, settings(data_dir)) as running,
        seated(peer, running, fresh("room")) as (room, _, watched),
    ):
        await ticked(peer, room, watched)
        await asyncio.sleep(SILENCE_S)
        if speaks:
            peer.tick(room)
        yield running, peer, room, watched


async def ticking(peer: Peer, room: PeerRoom) -> None:
    while True:
        peer.tick(room)
        await asyncio.sleep(0.05)


def test_what_a_node_says_that_loses_the_room_is_not_passed_on(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            after_silence(brokers, fresh, tmp_path) as (running, old, room, watched),
            Peer() as new,
        ):
            before = len(watched.frames())
            speaking = asyncio.create_task(ticking(old, room), name="old owner")
            await asyncio.sleep(0.5)
            moved = PeerRoom(room.room_id, epoch=2, generations={0: 1})
            await new.own(running.runtime.bus, moved)
            await until(lambda: bool(moved.held))
            await ticked(new, moved, watched)
            speaking.cancel()
            first = watched.frames()[before]
            assert (first.epoch, first.base_tick) == (2, 0)
            assert not watched.ended

    runs(scenario())


def test_node_that_kept_the_room_is_believed_after_a_while(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with after_silence(brokers, fresh, tmp_path) as (_, peer, room, watched):
            before, ticks = len(watched.frames()), room.tick
            await ticked(peer, room, watched)
            first = watched.frames()[before]
            assert (first.epoch, first.base_tick) == (1, 0)
            assert first.tick > ticks + 10, "what it said at once was not passed on"
            await ticked(peer, room, watched)
            assert watched.frames()[-1].base_tick == watched.frames()[-1].tick - 1
            assert not watched.ended

    runs(scenario())


def test_next_owner_that_takes_the_room_up_late_is_asked_again(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            after_silence(brokers, fresh, tmp_path, speaks=False) as (running, _, room, watched),
            Peer() as new,
        ):
            moved = PeerRoom(room.room_id, epoch=2, generations={0: 1})
            await new.own(running.runtime.bus, moved)
            del new.rooms[room.room_id]  # it has not restored it yet
            await until(lambda: new.refused.count(room.room_id) >= 2)
            new.rooms[room.room_id] = moved
            await until(lambda: bool(moved.held))
            await ticked(new, moved, watched)
            assert watched.frames()[-1].epoch == 2

    runs(scenario())
