"""How rooms end on a real node: results once, failures alone, drains in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
from tests.integration.conftest import Runs
from tests.integration.rooms_stack import RunningNode, attached, host, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import tictactoe
from rallypoint.games.columns import Table, u16
from rallypoint.games.definition import define
from rallypoint.games.game import ColumnGame, GameInfo, RoomGame, message
from rallypoint.games.room import Placement, Room, Rooms
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import subjects
from rallypoint.kit.names import QueueName, RoomId
from rallypoint.v1 import room_pb2

TICTACTOE = define(tictactoe.TicTacToe)
Fresh = Callable[[str], str]


class Steps(Table, rows=1):
    count = u16()
    fuse = u16()


class Fuse(ColumnGame):
    """Raises in the tick of rooms whose fuse was lit."""

    info = GameInfo(name="fuse", max_players=2)
    tables = (Steps,)

    @message(1)
    def light(self, room: Room, seat: int, body: bytes) -> bytes:
        room.table(Steps).fuse = 1
        return b""

    def on_tick(self, rooms: Rooms) -> None:
        steps = rooms.table(Steps)
        steps.count += 1
        if steps.fuse.any():
            raise RuntimeError("boom")


class Quick(RoomGame):
    """Ends when told."""

    info = GameInfo(name="quick", max_players=2, tick_hz=20)

    @message(1)
    def end(self, seat: int, body: bytes) -> bytes:
        self.room.finish([Placement(0, 1, 7.0), Placement(1, 2)])
        return b""


FUSE = define(Fuse)
QUICK = define(Quick)
GAMES = {"fuse": FUSE, "quick": QUICK}


async def results_of(node: RunningNode, queue: str, count: int = 1) -> list[events_pb2.ResultFact]:
    """The first results of a queue and whatever comes within a moment after them."""
    found: list[events_pb2.ResultFact] = []

    async def read() -> None:
        subject = subjects.result(QueueName(queue))
        async for fact in node.bus.ordered(subjects.RESULTS.name, subject):
            result = events_pb2.ResultFact.FromString(fact.data)
            found.append(result)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(), name="results")
        await until(lambda: len(found) >= count, within_s=20.0)
        await asyncio.sleep(0.3)
        reading.cancel()
    return found


async def closed_fact(node: RunningNode, room_id: str) -> events_pb2.RoomFact:
    """The fact that a room is closed."""
    subject = subjects.room("closed", RoomId(room_id))
    async with asyncio.timeout(30):
        async for fact in node.bus.ordered(subjects.ROOMS.name, subject):
            return events_pb2.RoomFact.FromString(fact.data)
    raise AssertionError("no fact")


async def keys_are_gone(node: RunningNode, room_id: str) -> None:
    kv = node.bus.kv(subjects.OWNERS.name)
    keys = (subjects.own(RoomId(room_id)), subjects.snapshot(RoomId(room_id)))
    async with asyncio.timeout(30):
        while any([await kv.get(key) for key in keys]):  # noqa: ASYNC110  # a broker's state
            await asyncio.sleep(0.05)


def test_result_is_published_once_and_keys_are_purged(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers, games=GAMES) as node, attached(node, QUICK) as gateway:
            room_id, queue = fresh("room"), fresh("queue")
            revision = await node.own(room_id)
            seats = await node.create(room_id, game="quick", queue=queue, own_revision=revision)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await gateway.message(player, 1, b"", 1)
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.kind == room_pb2.CONTROL_KIND_CLOSED
            (result,) = await results_of(node, queue)
            assert result.result == player.control.result
            assert (result.queue, result.epoch, result.result.match_id) == (queue, 1, room_id)
            assert [place.score for place in result.result.placements] == [7.0, 0.0]
            assert result.result.rated
            fact = await closed_fact(node, room_id)
            assert (fact.set, fact.node_id, fact.epoch) == ("local", "local-1", 1)
            await keys_are_gone(node, room_id)
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await node.create(room_id, game="quick")
            assert late.value.code() == grpc.StatusCode.FAILED_PRECONDITION

    runs(play())


def test_result_waits_for_the_broker_and_comes_once(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(own_brokers, games=GAMES) as node, attached(node, QUICK) as gateway:
            room_id, queue = fresh("room"), fresh("queue")
            revision = await node.own(room_id)
            seats = await node.create(room_id, game="quick", queue=queue, own_revision=revision)
            other = await node.create(fresh("room"), game="quick")
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            own_brokers.nats.kill()
            await gateway.message(player, 1, b"", 1)
            await until(lambda: player.control is not None)
            assert other
            assert len(node.runtime.health.statistics()) > 1
            own_brokers.nats.start()
            assert len(await results_of(node, queue)) == 1
            await keys_are_gone(node, room_id)

    runs(play())


def test_result_of_a_room_given_away_counts_nothing(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers, games=GAMES) as node, attached(node, QUICK) as gateway:
            room_id, queue = fresh("room"), fresh("queue")
            revision = await node.own(room_id)
            seats = await node.create(room_id, game="quick", queue=queue, own_revision=revision)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            moved = await node.own(room_id, epoch=2)
            await gateway.message(player, 1, b"", 1)
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.reason == "SUPERSEDED"
            assert not player.control.HasField("result")
            entry = await node.bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
            assert entry is not None
            assert entry.revision == moved

    runs(play())


def test_raising_game_ends_its_room_and_no_other(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers, games=GAMES) as node, attached(node, FUSE) as gateway:
            rooms = [fresh("room") for _ in range(3)]
            players = []
            for room_id in rooms:
                seats = await node.create(room_id, game="fuse")
                players.append(await gateway.join(room_id, "p0", seats[0].seat_token))
            await gateway.message(players[1], 1, b"", 1)
            await until(lambda: players[1].control is not None)
            assert players[1].control is not None
            assert players[1].control.reason == "GAME_ERROR"
            seen = [len(player.frames) for player in players]
            await until(lambda: len(players[0].frames) > seen[0] + 5)
            assert len(players[2].frames) > seen[2] + 4
            assert (players[0].control, players[2].control) == (None, None)
            counts = [players[index].value("steps", "count")[0] for index in (0, 2)]
            assert min(counts) > seen[0]

    runs(play())


def test_room_without_players_is_given_up(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers, games=GAMES) as node, attached(node, QUICK) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="quick")
            players = [
                await gateway.join(room_id, seat.player_id, seat.seat_token) for seat in seats
            ]
            for player in players:
                await gateway.send(leaves=[host.ClientLeave(client=player.client, for_good=True)])
            assert (await closed_fact(node, room_id)).reason == "ABANDONED"

    runs(play())


def test_close_room_tells_why(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            request = host.CloseRoomRequest(room_id=room_id, reason="BY_HAND")
            await node.stub.CloseRoom(request)
            await node.stub.CloseRoom(request)
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.reason == "BY_HAND"

    runs(play())


def test_drain_refuses_rooms_and_ends_those_that_run(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            node.runtime.stopping.set()
            await until(lambda: player.control is not None)
            assert player.control is not None
            assert player.control.reason == "NODE_DRAINING"
            assert node.runtime.health.is_ready() is False
            assert (await closed_fact(node, room_id)).reason == "NODE_DRAINING"

    runs(play())


def test_node_is_registered_and_beats(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        node_id = fresh("node")
        async with room_node(brokers, node_id=node_id) as node:
            beats: list[events_pb2.Heartbeat] = []
            await node.bus.subscribe(
                f"heartbeat.{node_id}",
                lambda sent: beats.append(events_pb2.Heartbeat.FromString(sent.data)),
            )
            await node.create(fresh("room"))
            await until(lambda: any(beat.rooms == 1 for beat in beats))
            assert beats[-1].incarnation == f"{node_id}-a"
            entry = await node.bus.kv(subjects.NODES.name).get(node_id)
            assert entry is not None
            record = events_pb2.NodeRecord.FromString(entry.value or b"")
            assert {"skirmish", "tictactoe"} <= set(record.games)
            assert (record.address, record.set) == (node.address, "local")

    runs(play())
