"""A room node as gateways and fleet meet it: joins, frames, inputs, messages, seats, results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.integration.conftest import Runs
from tests.integration.rooms_stack import attached, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import skirmish, tictactoe
from rallypoint.games.definition import define

SKIRMISH = define(skirmish.Skirmish)
TICTACTOE = define(tictactoe.TicTacToe)
Fresh = Callable[[str], str]


def test_join_gets_welcome_keyframe_and_deltas(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: len(player.frames) >= 5)
            assert player.welcome.schema.hash == SKIRMISH.schema.hash()
            assert player.frames[0].base_tick == 0
            assert all(frame.base_tick for frame in player.frames[1:])
            assert player.value("players", "health")[0] == skirmish.MAX_HEALTH
            assert player.value("seats", "state").tolist()[:3] == [2, 1, 0]

    runs(play())


def test_inputs_are_applied_once_and_acknowledged(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: bool(player.frames))
            start = float(player.value("players", "x")[0])
            await gateway.inputs(player, 1, {"dx": 100}, {"dx": 100}, {"dx": 100})
            await gateway.inputs(player, 1, {"dx": -100}, {"dx": -100}, {"dx": -100})
            await until(lambda: player.value("seats", "ack")[0] == 3)
            await asyncio.sleep(0.15)
            assert player.value("seats", "ack")[0] == 3
            assert player.value("players", "x")[0] > start

    runs(play())


def test_result_reaches_players(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            one = await gateway.join(room_id, "p0", seats[0].seat_token)
            two = await gateway.join(room_id, "p1", seats[1].seat_token)
            moves = [(one, 0), (two, 3), (one, 1), (two, 4), (one, 2)]
            for number, (player, cell) in enumerate(moves, start=1):
                reply = await gateway.message(player, tictactoe.PLACE, bytes((cell,)), number)
                assert reply.code == 0
            await until(lambda: one.control is not None and two.control is not None)
            assert one.control is not None
            ranks = {place.player_id: place.rank for place in one.control.result.placements}
            assert ranks == {"p0": 1, "p1": 2}

    runs(play())
