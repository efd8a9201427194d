"""The node of a match is killed, frozen or cut off, on the whole stack: play goes on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.support.players import (
    RESUME_CAP_S,
    assert_resumed,
    playing,
    resumed,
    send_inputs,
    until,
)

from rallypoint.cli import plan, ports, stack
from rallypoint.internal.v1 import events_pb2, snapshot_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId

Runs = Callable[[Coroutine[Any, Any, None]], None]
DUEL = {
    **plan.DEFAULT_QUEUES["skirmish"],
    "queue": "duel",
    "team_count": 2,
    "max_players": 2,
    "min_after_s": 0,
    "options": {"time_limit_s": 3000},
}
TICTACTOE = {**plan.DEFAULT_QUEUES["tictactoe"]}


def wish(directory: Path, **changes: Any) -> plan.Wish:
    queues = (DUEL, TICTACTOE)
    return plan.Wish(data_dir=directory, web_port=ports.free_one(), queues=queues, **changes)


async def own(bus: Bus, room_id: str) -> events_pb2.OwnRecord:
    entry = await bus.kv("rooms").get(subjects.own(RoomId(room_id)))
    assert entry is not None
    assert entry.value is not None
    return events_pb2.OwnRecord.FromString(entry.value)


def process_of(record: events_pb2.OwnRecord) -> str:
    """The stack's name of a node."""
    return f"room-state-{record.node_id.rpartition('-')[2]}"


@contextlib.asynccontextmanager
async def on_bus(running: stack.Stack) -> AsyncIterator[Bus]:
    bus = await Bus.connect(running.nats_url, name="test")
    try:
        yield bus
    finally:
        await bus.close()


def test_play_resumes_elsewhere_after_the_node_was_killed(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path, room_nodes=2)) as running,
            on_bus(running) as bus,
            playing(running.url, "duel", "skirmish") as players,
            asyncio.TaskGroup() as tasks,
        ):
            inputs = [tasks.create_task(send_inputs(player)) for player in players]
            await asyncio.sleep(2.5)
            room_id = players[0].room.seat.room_id
            before = await own(bus, room_id)
            running.kill(process_of(before), for_good=True)
            await until(resumed(players, 2))
            after = await own(bus, room_id)
            assert after.epoch > 1
            assert after.node_id != before.node_id
            assert_resumed(players)
            # Inputs count again: those sent meanwhile, and new ones.
            acks = {player.room: player.room.seat.ack for player in players}
            await until(lambda: all(room.seat.ack > ack for room, ack in acks.items()))
            for task in inputs:
                task.cancel()

    runs(scenario())


def test_play_resumes_on_the_only_node_after_its_restart(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path)) as running,
            playing(running.url, "duel", "skirmish") as players,
            asyncio.TaskGroup() as tasks,
        ):
            pushing = [tasks.create_task(send_inputs(player)) for player in players]
            await asyncio.sleep(1.5)
            running.kill("room-state-1")
            await until(resumed(players, 2))
            for task in pushing:
                task.cancel()
            assert_resumed(players)

    runs(scenario())


def test_moves_of_before_stand_after_recovery(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path, room_nodes=2)) as running,
            on_bus(running) as bus,
            playing(running.url, "tictactoe", "tictactoe") as players,
        ):
            first = {player.room.seat.slot: player.room for player in players}
            assert await first[0].send_message(1, b"\x04") == b""
            await asyncio.sleep(1.5)
            running.kill(process_of(await own(bus, first[0].seat.room_id)), for_good=True)
            # Sent while the room is away: answered once it is back.
            assert await first[1].send_message(1, b"\x00", tries=60) == b""
            await until(lambda: first[0].seat.values("board")["mark"].tolist()[0] == 2)
            assert first[0].seat.values("board")["mark"].tolist() == [2, 0, 0, 0, 1, 0, 0, 0, 0]
            for cell, slot in ((3, 0), (1, 1), (5, 0)):
                assert await first[slot].send_message(1, bytes((cell,))) == b""
            ended = await first[0].wait_ended()
            ranks = {place.slot: place.rank for place in ended.result.placements}
            assert ranks == {0: 1, 1: 2}

    runs(scenario())


async def rooms_at(running: stack.Stack, name: str) -> int:
    return int(str((await running.status(name)).get("rooms", -1)))


def test_frozen_process_that_wakes_up_is_heard_by_nobody(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path, room_nodes=2)) as running,
            on_bus(running) as bus,
            playing(running.url, "duel", "skirmish") as players,
        ):
            await asyncio.sleep(1.5)
            room_id = players[0].room.seat.room_id
            zombie = process_of(await own(bus, room_id))
            running.kill(zombie, number=signal.SIGSTOP)
            await until(resumed(players, 2))
            assert_resumed(players)
            running.kill(zombie, number=signal.SIGCONT)
            await until(lambda: _is(rooms_at(running, zombie), 0))
            await asyncio.sleep(1.0)
            for player in players:
                player.seen.check()
                assert player.room.joins == 1
            found = await bus.kv("rooms").get(subjects.snapshot(RoomId(room_id)))
            assert found is not None
            assert snapshot_pb2.RoomSnapshot.FromString(found.value or b"").epoch > 1

    runs(scenario())


async def _is(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted


def test_play_resumes_although_nats_restarts_meanwhile(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path, room_nodes=2)) as running,
            playing(running.url, "duel", "skirmish") as players,
        ):
            await asyncio.sleep(1.5)
            async with on_bus(running) as bus:
                lost = process_of(await own(bus, players[0].room.seat.room_id))
            running.kill(lost, for_good=True)
            running.kill("nats")
            await until(resumed(players, 2))
            assert_resumed(players)

    runs(scenario())


def test_players_wait_while_no_node_has_room(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path)) as running,
            playing(running.url, "duel", "skirmish") as players,
        ):
            await asyncio.sleep(1.5)
            running.kill("room-state-1", for_good=True)
            await asyncio.sleep(8.0)
            assert all(player.room.ended is None for player in players)
            await running.release("room-state-1")
            await until(resumed(players, 2))
            assert_resumed(players)

    runs(scenario())


def test_room_whose_snapshot_is_unreadable_is_lost_and_said_so(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(wish(tmp_path, room_nodes=2)) as running,
            on_bus(running) as bus,
            playing(running.url, "duel", "skirmish") as players,
        ):
            room_id = players[0].room.seat.room_id
            running.kill(process_of(await own(bus, room_id)), for_good=True)
            await asyncio.sleep(0.5)
            await bus.kv("rooms").put(subjects.snapshot(RoomId(room_id)), b"\xff\xff")
            for player in players:
                async with asyncio.timeout(RESUME_CAP_S):
                    assert (await player.room.wait_ended()).reason == "ROOM_LOST"

    runs(scenario())
