"""A room that a player made is entered by its code, and listed, also after its node was killed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.integration.conftest import Runs
from tests.integration.test_recovery import wish
from tests.support.players import until

from rallypoint import client
from rallypoint.cli import stack
from rallypoint.kit import errors


def test_code_and_listing_survive_the_node(runs: Runs, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as open_:
            running = await open_.enter_async_context(stack.Stack(wish(tmp_path, room_nodes=2)))
            ada, bob = [
                await open_.enter_async_context(client.connect(running.url, name=name, game="x"))
                for name in ("Ada", "Bob")
            ]
            options = b'{"time_limit_s": 3000}'
            made = await client.Rooms(ada).create("skirmish", listed=True, options=options)
            mine = await open_.enter_async_context(
                client.RoomConnection(ada, made.room_id, made.seat_token)
            )
            await until(lambda: mine.seat.tick > 40)
            before = mine.seat.epoch
            for number in (1, 2):  # one of them has the room; the other comes back empty
                if await _runs_it(running, number, made.room_id):
                    running.kill(f"room-state-{number}")
            await until(lambda: mine.seat.epoch > before)

            async def entered() -> bool:
                with contextlib.suppress(errors.Unavailable, errors.NotFound):
                    found = await client.Rooms(bob).join(made.code)
                    return found.room_id == made.room_id
                return False

            await until(entered)

            async def listed() -> bool:
                rooms = [room async for room in client.Rooms(bob).list("skirmish")]
                return [(room.code, room.players) for room in rooms] == [(made.code, 2)]

            await until(listed)

    runs(scenario())


async def _runs_it(running: stack.Stack, number: int, room_id: str) -> bool:
    return int(str((await running.status(f"room-state-{number}")).get("rooms", 0))) > 0
