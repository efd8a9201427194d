"""Snapshots of a real node on a real NATS: written, fenced, restored on another node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.conftest import Runs
from tests.integration.rooms_stack import Player, RunningNode, attached, host, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import GameInfo, RoomGame, skirmish, tictactoe
from rallypoint.games.definition import define
from rallypoint.internal.v1 import allocation_pb2, room_admin_pb2, room_admin_pb2_grpc, snapshot_pb2
from rallypoint.kit import errors, rpc, subjects
from rallypoint.kit.names import RoomId
from rallypoint.v1 import room_pb2

SKIRMISH = define(skirmish.Skirmish)
TICTACTOE = define(tictactoe.TicTacToe)
Fresh = Callable[[str], str]


class Unsavable(RoomGame):
    info = GameInfo(name="unsavable", max_players=2)

    def on_snapshot(self) -> bytes:
        raise RuntimeError("never")


async def stored(node: RunningNode, room_id: str) -> snapshot_pb2.RoomSnapshot | None:
    entry = await node.bus.kv(subjects.OWNERS.name).get(subjects.snapshot(RoomId(room_id)))
    if entry is None or entry.value is None:
        return None
    return snapshot_pb2.RoomSnapshot.FromString(entry.value)


async def until_stored(node: RunningNode, room_id: str, *, tick: int) -> None:
    """Wait for a snapshot of this tick or a later one."""
    async with asyncio.timeout(20):
        while (found := await stored(node, room_id)) is None or found.engine.tick < tick:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


async def restore(node: RunningNode, room_id: str, epoch: int) -> host.RestoreRoomResponse:
    """Give a room to a node as fleet does."""
    revision = await node.own(room_id, epoch)
    request = host.RestoreRoomRequest(room_id=room_id, epoch=epoch, own_revision=revision)
    return await node.stub.RestoreRoom(request)


async def refusal(node: RunningNode, room_id: str, epoch: int) -> str:
    with pytest.raises(errors.RallypointError) as refused:
        async with rpc.calling():
            await restore(node, room_id, epoch)
    return refused.value.reason


def acked(player: Player) -> int:
    return int(player.value("seats", "ack")[player.welcome.slot])


def test_created_room_is_stored_before_the_reply(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node:
            room_id = fresh("room")
            await node.create(room_id, own_revision=await node.own(room_id))
            first = await stored(node, room_id)
            assert first is not None
            assert [len(seat.token_hashes) for seat in first.seats] == [1, 1]
            await node.create(room_id)
            again = await stored(node, room_id)
            assert again is not None
            assert [len(seat.token_hashes) for seat in again.seats] == [2, 2]
            await until_stored(node, room_id, tick=again.engine.tick + 30)
            await node.stub.CloseRoom(host.CloseRoomRequest(room_id=room_id, reason="TEST"))
            async with asyncio.timeout(30):
                while await stored(node, room_id) is not None:  # noqa: ASYNC110  # no event
                    await asyncio.sleep(0.05)

    runs(play())


def test_kick_is_stored_before_the_reply(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as node,
            rpc.channel(node.address, name="test") as channel,
        ):
            room_id = fresh("room")
            await node.create(room_id, players=3, own_revision=await node.own(room_id))
            stub: Any = room_admin_pb2_grpc.RoomAdminServiceStub(channel)
            kick = room_admin_pb2.RemovePlayerRequest(room_id=room_id, slot=1, player_id="p0")
            with pytest.raises(errors.Aborted, match="SEAT_CHANGED"):
                async with rpc.calling():
                    await stub.RemovePlayer(kick)
            kick.player_id = "p1"
            await stub.RemovePlayer(kick)
            found = await stored(node, room_id)
            assert found is not None
            assert list(found.kicked) == ["p1"]
            kick.slot, kick.player_id = 2, "p2"
            await stub.RemovePlayer(kick)  # one is left alone: the match is over, for good
            assert await stored(node, room_id) is None

    runs(play())


def test_players_who_come_together_are_all_stored(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node:
            room_id = fresh("room")
            await node.create(room_id, own_revision=await node.own(room_id))

            async def come(number: int) -> None:
                player = allocation_pb2.SeatRequest(player_id=f"late-{number}")
                added = await node.stub.AddPlayers(
                    host.AddPlayersRequest(room_id=room_id, players=[player])
                )
                found = await stored(node, room_id)
                assert found is not None
                assert added.seats[0].slot < len(found.seats)

            await asyncio.gather(*(come(number) for number in range(6)))

    runs(play())


def test_room_goes_on_at_another_node(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as old,
            room_node(brokers, node_id="local-2") as new,
            attached(old, SKIRMISH) as before,
            attached(new, SKIRMISH) as after,
        ):
            room_id = fresh("room")
            seats = await old.create(room_id, own_revision=await old.own(room_id))
            player = await before.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: bool(player.frames))
            await before.inputs(player, 1, {"dx": 100}, {"dx": 100}, {"fire": 1})
            await until(lambda: acked(player) == 3)
            await until_stored(old, room_id, tick=player.frames[-1].tick)
            reply = await restore(new, room_id, epoch=2)
            # The old node cannot store any more, so it stops and says where to look.
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.kind == room_pb2.CONTROL_KIND_MOVED
            held = player.seat
            same = await after.join(room_id, "p0", generation=held.generation, slot=held.slot)
            await until(lambda: len(same.frames) > 2)
            assert same.frames[0].base_tick == 0
            assert {frame.epoch for frame in same.frames} == {2}
            assert same.frames[0].tick >= reply.tick > player.frames[0].tick
            assert acked(same) == 3
            await after.inputs(same, 2, {"dx": -100}, {"dx": -100}, {"dx": 100})
            await until(lambda: acked(same) == 4)
            assert list(same.events) == [1]  # SPAWN, as the keyframe repeats it
            # Twice is once.
            assert (await restore_again(new, room_id)).tick >= reply.tick

    runs(play())


async def restore_again(node: RunningNode, room_id: str) -> host.RestoreRoomResponse:
    entry = await node.bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
    assert entry is not None
    request = host.RestoreRoomRequest(room_id=room_id, epoch=2, own_revision=entry.revision)
    return await node.stub.RestoreRoom(request)


def test_messages_are_not_answered_twice_by_two_nodes(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as old,
            room_node(brokers, node_id="local-2") as new,
            attached(old, TICTACTOE) as before,
            attached(new, TICTACTOE) as after,
        ):
            room_id = fresh("room")
            revision = await old.own(room_id)
            seats = await old.create(room_id, game="tictactoe", own_revision=revision)
            one = await before.join(room_id, "p0", seats[0].seat_token)
            await before.join(room_id, "p1", seats[1].seat_token)
            assert (await before.message(one, tictactoe.PLACE, b"\x04", 1)).code == 0
            await until(lambda: bool(one.frames))
            await until_stored(old, room_id, tick=one.frames[-1].tick + 10)
            await restore(new, room_id, epoch=2)
            # The first token of all still opens the seat: no later one is known to be saved.
            again = await after.join(room_id, "p0", one.welcome.seat_token, seats[0].seat_token)
            assert (await after.message(again, tictactoe.PLACE, b"\x04", 1)).code == 0
            refused = await after.message(again, tictactoe.PLACE, b"\x05", 2)
            assert refused.reason == "NOT_YOUR_TURN"
            await until(lambda: bool(again.frames))
            assert again.value("board", "mark").tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]

    runs(play())


def test_snapshot_that_fits_nothing_is_refused_with_a_reason(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    class Smaller(tictactoe.TicTacToe):
        tables = (tictactoe.Board,)

    smaller = define(Smaller)

    async def play() -> None:
        async with (
            room_node(brokers) as old,
            room_node(brokers, node_id="local-2", games={"tictactoe": smaller}) as new,
        ):
            room_id = fresh("room")
            assert await refusal(new, room_id, epoch=1) == "SNAPSHOT_MISSING"
            revision = await old.own(room_id, 2)
            await old.create(room_id, game="tictactoe", own_revision=revision, epoch=2)
            assert await refusal(new, room_id, epoch=2) == "EPOCH_STALE"
            assert await refusal(new, room_id, epoch=3) == "SNAPSHOT_LAYOUT"
            kv = new.bus.kv(subjects.OWNERS.name)
            await kv.put(subjects.snapshot(RoomId(room_id)), b"\xff\xff")
            assert await refusal(new, room_id, epoch=4) == "SNAPSHOT_MALFORMED"

    runs(play())


def test_room_that_was_moved_cannot_end_the_match(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as old,
            room_node(brokers, node_id="local-2") as new,
            attached(old, TICTACTOE) as gateway,
        ):
            room_id = fresh("room")
            revision = await old.own(room_id)
            seats = await old.create(room_id, game="tictactoe", own_revision=revision)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await restore(new, room_id, epoch=2)
            await old.stub.CloseRoom(host.CloseRoomRequest(room_id=room_id, reason="TEST"))
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.kind == room_pb2.CONTROL_KIND_MOVED
            found = await stored(new, room_id)
            assert found is not None
            assert found.epoch == 2

    runs(play())


def test_room_that_cannot_be_stored_ends_when_it_is_another_nodes(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers, games={"unsavable": define(Unsavable)}) as node:
            room_id = fresh("room")
            revision = await node.own(room_id)
            for _ in range(2):
                await node.create(room_id, game="unsavable", own_revision=revision)
            await node.own(room_id, epoch=2)
            with pytest.raises(errors.Aborted, match="EPOCH_STALE"):
                async with rpc.calling():
                    await node.create(room_id, game="unsavable", own_revision=revision)

    runs(play())
