"""A game whose players see only what is near is watched whole, and not by those who play it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.open_stack import create, open_stack
from tests.integration.test_replay import ADMIN, SECRET, Chunks, Fresh, close, guest, seat_by_code
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.client import RoomConnection, replay
from rallypoint.client.replay import Playback, Step
from rallypoint.client.seat import Stepped
from rallypoint.games.definition import define
from rallypoint.games.schema import Array
from rallypoint.games.swarm import Swarm
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

Rows = dict[int, list[float]]
"""By tick, the row of each column of a swarmer."""
PLACE = ("x", "y", "alive")


def row(tables: Mapping[str, Mapping[str, Array]], slot: int) -> list[float]:
    return [tables["swarmers"][column][slot].item() for column in PLACE]


def seen_of(chunks: Chunks, slot: int) -> Rows:
    """What a replay shows of a swarmer."""
    playback = Playback()
    moments = ((playback, moment) for chunk in chunks for moment in playback.take(chunk))
    return {
        moment.tick: row(viewer.tables, slot)
        for viewer, moment in moments
        if isinstance(moment, Step)
    }


def test_all_of_a_swarm_is_watched_but_not_by_who_is_in_it(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        near: dict[int, Rows] = {}

        def note(room: RoomConnection, stepped: Stepped) -> None:
            slot = room.seat.slot
            near.setdefault(slot, {})[stepped.tick] = row(room.seat.tables, slot)

        games = {"swarm": define(Swarm)}
        async with open_stack(
            brokers, fresh("set"), tmp_path, games=games, admin=ADMIN, spectate_delay_s=3.0
        ) as stack:
            host = await stack.player(fresh("host"))
            made = await create(
                host, "one", "swarm", record=True, max_spectators=2,
                visibility=room_pb2.ROOM_VISIBILITY_LISTED,
            )  # fmt: skip
            ada, bo, eve = [await guest(stack) for _ in range(3)]
            tokens = [await seat_by_code(session, made.code) for session in (ada, bo)]
            async with (
                RoomConnection(ada, made.room_id, tokens[0], on_step=note) as first,
                RoomConnection(bo, made.room_id, tokens[1], on_step=note) as second,
            ):
                await asyncio.gather(first.wait_joined(), second.wait_joined())
                await until(lambda: min(map(len, near.values())) > 60)
                with pytest.raises(errors.FailedPrecondition, match="REPLAY_EARLY"):
                    await anext(replay.play(ada, made.room_id))
                watched = [await anext(replay.spectate(eve, made.room_id))]
                await close(stack, made.room_id)
            async with asyncio.timeout(20):
                chunks: Chunks = []
                while not (chunks and chunks[-1].last):
                    await asyncio.sleep(0.1)
                    found = replay.watch(ada.channel, SECRET, made.room_id)
                    chunks = [chunk async for chunk in found]
            assert [chunk async for chunk in replay.play(bo, made.room_id)] == chunks
            assert len(near) == 2
            for slot in near:
                shown = seen_of(chunks, slot)
                assert near[slot].items() <= shown.items()
                assert any(alive for _, _, alive in near[slot].values())
                early = seen_of(watched, slot)
                assert early
                assert early.items() <= shown.items()
            for session in (ada, bo, eve):
                await session.channel.close()

    runs(scenario())
