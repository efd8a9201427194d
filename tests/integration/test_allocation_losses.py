"""Nothing that was promised is lost: an empty Redis, replies that never came, fleets that died."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tests.integration.conftest import Runs
from tests.integration.fleet_stack import Stack, fleet_stack, running_fleet, until

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.domain.nodes import place_of
from rallypoint.fleet.fences import Fences
from rallypoint.kit import errors
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store

Fresh = Callable[[str], str]
TTL_S = 1.0
T = TypeVar("T")


def test_an_empty_redis_is_filled_from_what_servers_run(
    runs: Runs, own_brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with fleet_stack(own_brokers, fresh("set")) as stack:
            nodes = [await stack.node(capacity=3) for _ in range(2)]
            rooms = [fresh("room") for _ in range(4)]
            first = [await stack.allocate(room) for room in rooms]
            await stack.store.set("marker", "there")
            own_brokers.redis.kill()
            files = tmp_path / "brokers" / "redis"
            shutil.rmtree(files)
            files.mkdir()
            await asyncio.to_thread(own_brokers.redis.start)
            assert await _asked(lambda: stack.store.get("marker")) is None
            again = [await _retried(stack, room) for room in rooms]
            assert again == [(one.node_id, one.epoch) for one in first]
            await _retried(stack, fresh("room"))
            await until(lambda: _claimed(stack, 5))
            fences, name = Fences(stack.store), SetName(stack.set_name)
            epoch = await fences.lead(name, known_epoch=7)
            for node in nodes:
                place = place_of(node.node_id, node.incarnation)
                assert await fences.fence(name, place, epoch=epoch) == "used"

    runs(scenario())


def test_every_claim_whose_reply_was_lost_is_free_again(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), claim_ttl_s=TTL_S) as stack:
            node = await stack.node(capacity=40)
            kept = fresh("room")
            await stack.allocate(kept)
            await _die_after_claiming(stack.store, stack, rooms=[fresh("lost") for _ in range(30)])
            assert await stack.claimed(node) == 31
            await until(lambda: _claimed(stack, 1))
            assert (await stack.allocate(kept)).epoch == 1

    runs(scenario())


def test_fleets_side_by_side_agree_on_every_request(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            for _ in range(2):
                await stack.node(capacity=8)
            other = Stack(stack.bus, stack.store, stack.set_name)
            async with running_fleet(other):
                for node in stack.peers:
                    await other.until_known(node)
                rooms = [fresh("room") for _ in range(12)]
                asked = [each.allocate(room) for room in rooms for each in (stack, other)]
                replies = await asyncio.gather(*asked)
                for first, second in zip(replies[::2], replies[1::2], strict=True):
                    assert (first.node_id, first.epoch) == (second.node_id, second.epoch)
                assert sorted((await stack.nodes()).values()) == [4, 8]

    runs(scenario())


async def _die_after_claiming(store: Store, stack: Stack, *, rooms: list[str]) -> None:
    """What a fleet leaves that dies after the claim, before anything else."""
    claims = Claims(store, SystemClock(), ttl_s=TTL_S, closing_s=5, moving_s=5)
    node = stack.peers[0]
    place = place_of(node.node_id, node.incarnation)
    for room in rooms:
        taken = await claims.take(
            SetName(stack.set_name), RoomId(room), epoch=1, candidates=[(place, node.capacity)]
        )
        assert taken.is_new


async def _claimed(stack: Stack, count: int) -> bool:
    return sum((await stack.nodes()).values()) == count


async def _retried(stack: Stack, room: str) -> tuple[str, int]:
    reply = await _asked(lambda: stack.allocate(room))
    return reply.node_id, reply.epoch


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the brokers answer."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await ask()
            except errors.Unavailable:
                await asyncio.sleep(0.05)
