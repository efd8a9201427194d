"""Bots play whole matches on the whole stack, and ratings follow."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support import waiting

from rallypoint import client
from rallypoint.cli import bot_brains, bots, plan, ports, stack
from rallypoint.v1 import matchmaking_pb2 as mm

Runs = Callable[[Coroutine[Any, Any, None]], None]
DUEL = {
    **plan.DEFAULT_QUEUES["skirmish"],
    "queue": "duel",
    "team_count": 2,
    "max_players": 2,
    "min_after_s": 0,
    "options": {"time_limit_s": 4},
}
LONG = {**DUEL, "queue": "long", "options": {"time_limit_s": 15}}


def wish(directory: Path, **changes: Any) -> plan.Wish:
    queues = (DUEL, LONG, plan.DEFAULT_QUEUES["tictactoe"])
    return plan.Wish(data_dir=directory, web_port=ports.free_one(), queues=queues, **changes)


until = functools.partial(waiting.until, within_s=60, every_s=0.05)


async def players(running: stack.Stack, name: str) -> int:
    return int(str((await running.status(name)).get("players", 0)))


async def rated(player: client.Session, queue: str) -> mm.Rating:
    """The rating, once the match's result has been applied."""
    calls = client.Matchmaking(player)

    async def applied() -> bool:
        return (await calls.rating(queue)).matches > 0

    await until(applied)
    return await calls.rating(queue)


async def play(url: str, game: str, queue: str) -> tuple[client.Ended, mm.Rating]:
    """One player, played by a bot's brain: a match and the rating after it."""
    async with client.connect(url, name="Ada", game=game) as player:
        found = await client.Matchmaking(player).find(queue)
        brain = bot_brains.BRAINS[game](random.Random())
        async with client.RoomConnection(
            player, found.room_id, found.seat_token, on_step=brain.on_step
        ) as room:
            await room.wait_joined()
            async with asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(brain.play(room))
                ended = await room.wait_ended()
                playing.cancel()
        assert ended.result.match_id == found.room_id
        return ended, await rated(player, queue)


@pytest.mark.parametrize(("game", "queue"), [("skirmish", "duel"), ("tictactoe", "tictactoe")])
@pytest.mark.parametrize("way", ["grpc-web", "native"])
def test_match_is_played_to_its_end_and_rated(
    tmp_path: Path, runs: Runs, game: str, queue: str, way: str
) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path)) as running:
            native = f"grpc://{running.address('gateway-1/native')}"
            url = running.url if way == "grpc-web" else native
            outcomes = await asyncio.gather(play(url, game, queue), play(url, game, queue))
        (first, one), (second, other) = outcomes
        assert first.result == second.result
        assert sorted(p.slot for p in first.result.placements) == [0, 1]
        assert one.last_match_id == other.last_match_id == first.result.match_id
        draw = len({p.rank for p in first.result.placements}) == 1
        assert draw or (one.last_change != 0 and other.last_change != 0)

    runs(scenario())


@pytest.mark.parametrize("transport", ["grpc-web", "websocket"])
def test_bots_command_plays_and_reports(tmp_path: Path, runs: Runs, transport: str) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path, room_nodes=2, gateways=2)) as running:
            words = ["--game", "tictactoe", "--count", "4", "--matches", "2", "--json"]
            words += ["--transport", transport]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rallypoint", "bots", *words, "--url", running.url,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate()
        report = json.loads(output)
        assert process.returncode == 0
        assert report["matches"] == report["rated"] == 8
        assert report["errors"] == {}

    runs(scenario())


def test_bots_too_few_for_another_match_stop(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path)) as running:
            words = ["--game", "tictactoe", "--count", "3", "--matches", "1", "--json"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rallypoint", "bots", *words, "--url", running.url,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
            async with client.connect(running.url, name="Ada", game="tictactoe") as player:
                queues = await client.Matchmaking(player).queues()
        report = json.loads(output)
        assert process.returncode == 0
        assert (report["matches"], report["left_over"], report["errors"]) == (2, 1, {})
        assert {queue.searching for queue in queues} == {0}

    runs(scenario())


def test_bots_leave_cleanly_when_interrupted(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path)) as running:
            words = ["--game", "skirmish", "--queue", "duel", "--count", "3", "--json"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rallypoint", "bots", *words, "--url", running.url,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

            async def all_there() -> bool:
                return await players(running, "gateway-1") == 3

            await until(all_there)
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
            assert process.returncode == 0
            assert errors == b""
            assert json.loads(output)["errors"] == {}

    runs(scenario())


async def played_through_the_death_of(
    running: stack.Stack, process: str, *, queue: str
) -> bots.Score:
    """Two bots play one match of a queue; the process is killed once both are in it."""
    score = bots.Score()
    squad = bots.Squad(running.url, queue=queue, brain="skirmish", count=2, matches=1)
    playing = asyncio.ensure_future(bots.play(squad, score))

    async def both_play() -> bool:
        return await players(running, "room-state-1") == 2

    await until(both_play)
    running.kill(process)
    async with asyncio.timeout(90):
        await playing
    return score


def test_bots_come_back_after_a_gateway_was_killed(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path)) as running:
            score = await played_through_the_death_of(running, "gateway-1", queue="long")
            assert score.matches == 2
            assert score.rejoins >= 2

    runs(scenario())


def test_bots_end_their_match_although_its_node_was_killed(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with stack.Stack(wish(tmp_path)) as running:
            score = await played_through_the_death_of(running, "room-state-1", queue="duel")
            assert score.matches == score.rated == 2
            assert not score.wrong

    runs(scenario())
