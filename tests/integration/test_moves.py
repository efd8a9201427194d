"""Rooms move between real nodes while they are played, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.moves_stack import COUNT, OTHER_COUNTING, moving_world, playing
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games.definition import Definition
from rallypoint.kit import errors

Fresh = Callable[[str], str]
GAP_CAP_S = 1.5


def test_room_moves_and_nobody_notices(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            world.node("a"),
            world.node("b"),
        ):
            room_id = fresh("room")
            async with world.match(room_id) as (one, two):
                async with playing(one, two):
                    await until(lambda: one.sent >= 20)
                    target = await world.other(room_id)
                    moved = await world.move(room_id)
                    assert (moved.node_id, moved.epoch) == (target, 2)
                    await until(lambda: one.connection.seat.epoch == 2)
                    await until(lambda: one.sent >= 60)
                    back = await world.move(room_id, await world.other(room_id))
                    assert back.epoch == 3
                    await until(lambda: two.connection.seat.epoch == 3)
                    await asyncio.sleep(0.5)
                for client in (one, two):
                    await client.check()
                    assert sorted(set(client.epochs)) == [1, 2, 3]
                    steps = [b - a for a, b in zip(client.ticks, client.ticks[1:], strict=False)]
                    assert max(steps) <= 10, "ticks were skipped"
                    assert max(client.gaps_s) < GAP_CAP_S
                    print(
                        f"stood still {moved.gap_ms} and {back.gap_ms} ms; the longest time "
                        f"between two frames {max(client.gaps_s) * 1e3:.0f} ms"
                    )
                assert sum((await world.claimed()).values()) == 1
                assert (await world.claimed())[back.node_id] == 1

    runs(scenario())


def test_messages_on_the_way_are_answered_once(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            world.node("a"),
            world.node("b"),
        ):
            room_id = fresh("room")
            async with world.match(room_id) as (one, two):
                answers: list[int] = []

                async def ask() -> None:
                    while True:
                        answer = await one.connection.send_message(COUNT, b"")
                        answers.append(int.from_bytes(answer, "big"))

                async with playing(two):
                    asking = asyncio.create_task(ask(), name="ask")
                    for _ in range(4):
                        await world.move(room_id)
                        await asyncio.sleep(0.1)
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                assert answers == list(range(1, len(answers) + 1))
                assert len(answers) > 8
                await two.check()

    runs(scenario())


@pytest.mark.parametrize("reason", ["NODE_FULL", "SNAPSHOT_LAYOUT", "GAME_UNKNOWN"])
def test_room_stays_when_no_target_takes_it(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path, reason: str
) -> None:
    async def scenario() -> None:
        others: dict[str, Mapping[str, Definition]] = {
            "SNAPSHOT_LAYOUT": {"counting": OTHER_COUNTING},
            "GAME_UNKNOWN": {},
        }
        async with moving_world(brokers, fresh("set"), tmp_path) as world, world.node("a") as a:
            room_id = fresh("room")
            async with (
                world.match(room_id) as (one, two),
                world.node("b", games=others.get(reason), capacity=1) as b,
            ):
                if reason == "NODE_FULL":
                    # Only the node knows: fleet's view is a moment old.
                    await b.create(fresh("room"), game="tictactoe")
                async with playing(one, two):
                    await until(lambda: one.sent >= 5)
                    with pytest.raises(errors.RallypointError) as refused:
                        await world.move(room_id)
                    assert refused.value.reason == reason
                    await asyncio.sleep(0.3)
                for client in (one, two):
                    await client.check()
                    assert set(client.epochs) == {1}
                own = await world.own(room_id)
                assert (own.node_id, own.epoch) == (a.runtime.settings.instance, 1)
                assert sorted((await world.claimed()).values()) == [0, 1]

    runs(scenario())


def test_drained_node_is_emptied_and_nobody_notices(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            world.node("a") as a,
            contextlib.AsyncExitStack() as stack,
        ):
            rooms = [fresh("room") for _ in range(6)]
            pairs = [await stack.enter_async_context(world.match(room)) for room in rooms]
            clients = [client for pair in pairs for client in pair]
            b = await stack.enter_async_context(world.node("b"))
            node_id, other_id = a.runtime.settings.instance, b.runtime.settings.instance
            async with playing(*clients):
                await until(lambda: clients[-1].sent >= 5)
                await world.drain(node_id)
                await until(lambda: all(c.connection.seat.epoch == 2 for c in clients))
                left = await world.drain_state(node_id)
                assert (left.draining, left.rooms, left.last_problem) == (True, 0, "")
                async with asyncio.timeout(30):  # players are there before their claims
                    while await world.claimed() != {node_id: 0, other_id: 6}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                late = fresh("room")
                await world.allocate(late, ["p1", "p2"])
                assert (await world.own(late)).node_id == other_id
                await world.undrain(node_id)
                await world.move(rooms[0], node_id)
            for client in clients:
                await client.check()

    runs(scenario())


def test_match_that_finishes_is_not_moved(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            world.node("a") as a,
            world.node("b"),
        ):
            room_id = fresh("room")
            async with world.match(room_id, finish=1.0) as (one, two):
                owner = (await world.own(room_id)).node_id
                await world.drain(owner)
                ended = await asyncio.wait_for(one.connection.wait_ended(), 10)
                assert len(ended.result.placements) == 2
                assert set(one.epochs) == {1}
                assert (await two.connection.wait_ended()).reason == "FINISHED"
                async with asyncio.timeout(30):
                    while (await world.drain_state(owner)).rooms:  # noqa: ASYNC110  # no event
                        await asyncio.sleep(0.05)
            assert a.runtime.settings.instance in world.nodes

    runs(scenario())


def test_stopping_node_hands_its_rooms_over(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            contextlib.AsyncExitStack() as first,
        ):
            a = await first.enter_async_context(world.node("a"))
            async with world.match(fresh("room")) as (one, two), world.node("b"):
                async with playing(one, two):
                    await until(lambda: one.sent >= 5)
                    a.runtime.handing_over = True  # as SIGTERM says
                    await first.aclose()
                    await until(lambda: one.connection.seat.epoch == 2)
                    await asyncio.sleep(0.3)
                for client in (one, two):
                    await client.check()
                    assert max(client.gaps_s) < GAP_CAP_S

    runs(scenario())
