"""What dies while a room moves: whoever `own.<room>` names goes on with it, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.integration import test_recovery as whole
from tests.integration.conftest import Runs
from tests.integration.moves_stack import COUNTING, moving_world, playing
from tests.integration.rooms_stack import RunningNode, attached, host, room_node
from tests.support.waiting import until

from rallypoint.cli import stack
from rallypoint.cli.brokers import Brokers
from rallypoint.games.saved import layout_hash
from rallypoint.internal.v1 import (
    events_pb2,
    fleet_admin_pb2,
    fleet_admin_pb2_grpc,
    room_transfer_pb2,
    room_transfer_pb2_grpc,
    snapshot_pb2,
)
from rallypoint.kit import errors, rpc, subjects
from rallypoint.kit.bus_kv import Entry
from rallypoint.kit.health import Health
from rallypoint.kit.names import RoomId

Fresh = Callable[[str], str]
transfer = room_transfer_pb2


class Target(room_transfer_pb2_grpc.RoomTransferServiceServicer):
    """A target that does something of its own once it has the room."""

    def __init__(self, when_it_has_the_room: Callable[[bytes], Awaitable[None]]) -> None:
        self.health = Health("target")
        self.started: list[transfer.StartRoomRequest] = []
        self.abandoned = 0
        self.server: grpc.aio.Server | None = None
        self._then = when_it_has_the_room
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def PrepareRoom(self, request: Any, context: Any) -> transfer.PrepareRoomResponse:
        return transfer.PrepareRoomResponse()

    async def TransferRoom(self, request: Any, context: Any) -> transfer.TransferRoomResponse:
        await self._then(request.snapshot)
        return transfer.TransferRoomResponse()

    async def StartRoom(self, request: Any, context: Any) -> transfer.StartRoomResponse:
        self.started.append(request)
        await self.may_start.wait()
        return transfer.StartRoomResponse()

    async def AbandonRoom(self, request: Any, context: Any) -> transfer.AbandonRoomResponse:
        self.abandoned += 1
        return transfer.AbandonRoomResponse()


@asynccontextmanager
async def serving(target: Target) -> AsyncIterator[str]:
    """Where a target listens until the block ends."""
    server = target.server = rpc.make_server(target)
    room_transfer_pb2_grpc.add_RoomTransferServiceServicer_to_server(target, server)
    port = rpc.listen(server, "127.0.0.1", 0)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def transfers(node: RunningNode) -> AsyncIterator[Any]:
    """A client of a node's transfers."""
    async with rpc.channel(node.address, name="test") as channel, rpc.calling():
        yield room_transfer_pb2_grpc.RoomTransferServiceStub(channel)


async def migrate(node: RunningNode, room_id: str, address: str, *, epoch: int = 1) -> Any:
    """Ask a node to move a room, as fleet does."""
    async with transfers(node) as stub:
        return await stub.MigrateRoom(
            transfer.MigrateRoomRequest(
                room_id=room_id, epoch=epoch, node_id="target", incarnation="t", address=address
            )
        )


async def entry(node: RunningNode, key: str) -> Entry:
    found = await node.bus.kv(subjects.OWNERS.name).get(key)
    assert found is not None
    return found


async def record(node: RunningNode, room_id: str) -> events_pb2.OwnRecord:
    found = await entry(node, subjects.own(RoomId(room_id)))
    return events_pb2.OwnRecord.FromString(found.value or b"")


def test_room_goes_on_when_its_target_dies(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async def die(snapshot: bytes) -> None:
            assert target.server is not None
            asyncio.get_running_loop().create_task(target.server.stop(None))
            await asyncio.sleep(5)

        target = Target(die)
        async with moving_world(brokers, fresh("set"), tmp_path) as world, world.node("a") as a:
            room_id = fresh("room")
            async with world.match(room_id) as (one, two), serving(target) as address:
                async with playing(one, two):
                    await until(lambda: one.sent >= 5)
                    with pytest.raises(errors.Unavailable):
                        await migrate(a, room_id, address)
                    await asyncio.sleep(0.3)
                for client in (one, two):
                    await client.check()
                    assert set(client.epochs) == {1}

    runs(scenario())


def test_seat_given_up_while_the_target_starts_is_given_up_there(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async def take(snapshot: bytes) -> None:
            target.may_start.clear()

        target, room_id = Target(take), fresh("room")
        async with (
            room_node(brokers, games={"counting": COUNTING}) as node,
            attached(node, COUNTING) as gateway,
            serving(target) as address,
        ):
            revision = await node.own(room_id)
            seats = await node.create(room_id, game="counting", own_revision=revision)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            moving = asyncio.create_task(migrate(node, room_id, address), name="move")
            await until(lambda: bool(target.started))
            await gateway.send(leaves=[host.ClientLeave(for_good=True, seat=player.seat)])
            await asyncio.sleep(0.2)
            target.may_start.set()
            await moving
            left = [seat.slot for start in target.started for seat in start.left]
            assert left == [player.seat.slot]

    runs(scenario())


async def bring(room_id: str, node: RunningNode, name: str) -> None:
    """Hand a room to a node as its source does, up to the commit; `name` is the transfer's."""
    data = (await entry(node, subjects.snapshot(RoomId(room_id)))).value or b""
    async with transfers(node) as stub:
        await stub.PrepareRoom(
            transfer.PrepareRoomRequest(
                room_id=room_id, epoch=2, transfer=name, game="counting", players=2,
                layout=layout_hash(COUNTING),
            )
        )  # fmt: skip
        await stub.TransferRoom(
            transfer.TransferRoomRequest(room_id=room_id, epoch=2, transfer=name, snapshot=data)
        )


async def commit(node: RunningNode, room_id: str, name: str) -> None:
    """Write that a node owns a room, as the source or fleet does."""
    key = subjects.own(RoomId(room_id))
    found = await entry(node, key)
    owner = events_pb2.OwnRecord.FromString(found.value or b"")
    instance, incarnation = node.runtime.settings.instance, node.runtime.settings.incarnation
    owner.node_id, owner.incarnation, owner.address = instance, incarnation, node.address
    owner.epoch, owner.transfer = owner.epoch + 1, name
    kv = node.bus.kv(subjects.OWNERS.name)
    await kv.update(key, owner.SerializeToString(), revision=found.revision)


def test_target_goes_on_when_the_source_dies_after_the_commit(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with moving_world(brokers, fresh("set"), tmp_path) as world, world.node("a"):
            room_id = fresh("room")
            async with world.match(room_id) as (one, two), world.node("b") as b:
                await asyncio.sleep(1.2)
                await bring(room_id, b, "this-one")
                await commit(b, room_id, "this-one")
                await until(lambda: one.connection.seat.epoch == two.connection.seat.epoch == 2)
                tick = one.connection.seat.tick
                await until(lambda: one.connection.seat.tick > tick + 10)
                assert (one.connection.joins, two.connection.joins) == (1, 1)
                node_id = b.runtime.settings.instance
                async with asyncio.timeout(30):  # fleet's comparison lets the claim follow
                    while (await world.claimed())[node_id] != 1:  # noqa: ASYNC110  # no event
                        await asyncio.sleep(0.05)
                assert sum((await world.claimed()).values()) == 1

    runs(scenario())


@pytest.mark.parametrize("comes", [True, False])
def test_join_waits_at_the_target_for_the_start(
    brokers: Brokers, runs: Runs, fresh: Fresh, comes: bool
) -> None:
    async def scenario() -> None:
        room_id, games = fresh("room"), {"counting": COUNTING}
        async with (
            room_node(brokers, node_id=fresh("a"), games=games) as a,
            room_node(brokers, node_id=fresh("b"), games=games) as b,
            attached(b, COUNTING) as gateway,
            transfers(b) as stub,
        ):
            revision = await a.own(room_id)
            seats = await a.create(room_id, game="counting", own_revision=revision)
            await bring(room_id, b, "this-one")
            joining = asyncio.create_task(gateway.join(room_id, "p0", seats[0].seat_token))
            await asyncio.sleep(0.2)
            assert not joining.done()
            about: Any = {"room_id": room_id, "transfer": "this-one"}
            if not comes:
                await stub.AbandonRoom(transfer.AbandonRoomRequest(**about))
                refused = (await joining).joined
                assert (refused.reason, refused.generation) == ("ROOM_UNKNOWN", 0)
                return
            revision = await b.own(room_id, 2)
            await stub.StartRoom(transfer.StartRoomRequest(epoch=2, own_revision=revision, **about))
            player = await joining
            await until(lambda: bool(player.frames))
            assert (player.frames[0].epoch, player.frames[0].base_tick) == (2, 0)

    runs(scenario())


def test_target_drops_a_room_that_recovery_brings(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with moving_world(brokers, fresh("set"), tmp_path) as world, world.node("a"):
            room_id = fresh("room")
            async with world.match(room_id) as (one, _two), world.node("b") as b:
                await asyncio.sleep(1.2)
                await bring(room_id, b, "never-committed")
                tick = one.connection.seat.tick
                await until(lambda: one.connection.seat.tick > tick + 30)  # the source plays on
                assert one.connection.seat.epoch == 1
                await commit(b, room_id, "")  # as recovery does after the source's death
                await asyncio.sleep(1.0)
                state: Any = b.runtime.health.statistics()
                assert state["rooms"] == 0

    runs(scenario())


def test_claim_follows_when_fleet_dies_during_a_move(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            world.node("a") as a,
        ):
            room_id = fresh("room")
            async with world.match(room_id) as (one, two), world.node("b") as b:
                async with playing(one, two):
                    await until(lambda: one.sent >= 5)
                    async with transfers(a) as stub:  # fleet asked and is gone
                        await stub.MigrateRoom(
                            transfer.MigrateRoomRequest(
                                room_id=room_id, epoch=1, address=b.address,
                                node_id=b.runtime.settings.instance,
                                incarnation=b.runtime.settings.incarnation,
                            )
                        )  # fmt: skip
                    wanted = {a.runtime.settings.instance: 0, b.runtime.settings.instance: 1}
                    async with asyncio.timeout(30):
                        while await world.claimed() != wanted:  # noqa: ASYNC110  # no event
                            await asyncio.sleep(0.05)
                for client in (one, two):
                    await client.check()

    runs(scenario())


def tick_of(snapshot: bytes) -> int:
    return snapshot_pb2.RoomSnapshot.FromString(snapshot).engine.tick


def test_commit_of_unknown_outcome_never_makes_two_owners(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def scenario() -> None:
        room_id = fresh("room")
        key = subjects.snapshot(RoomId(room_id))
        paused = asyncio.Event()

        async def pause(snapshot: bytes) -> None:
            tick = tick_of(snapshot)
            while tick_of((await entry(node, key)).value or b"") < tick:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # the source has heard of it as well
            own_brokers.nats.pause()
            paused.set()

        target = Target(pause)
        async with room_node(own_brokers, games={"counting": COUNTING}) as node:
            revision = await node.own(room_id)
            await node.create(room_id, game="counting", own_revision=revision)
            async with serving(target) as address:
                moving = asyncio.create_task(migrate(node, room_id, address), name="move")
                await asyncio.wait_for(paused.wait(), 20)
                await asyncio.sleep(6.0)  # longer than the source waits for the answer
                own_brokers.nats.resume()
                assert not moving.done()
                outcome = (await asyncio.gather(moving, return_exceptions=True))[0]
                owner = await record(node, room_id)
                if isinstance(outcome, errors.RallypointError):
                    assert outcome.reason == "COMMIT_LOST"
                    assert (owner.epoch, target.started) == (1, [])
                else:
                    assert (owner.node_id, owner.epoch) == ("target", outcome.epoch)
                    assert [start.epoch for start in target.started] == [2]

    runs(scenario())


def test_node_that_stops_alone_leaves_its_rooms_to_the_next(
    brokers: Brokers, runs: Runs, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("set"), tmp_path) as world,
            contextlib.AsyncExitStack() as first,
        ):
            a = await first.enter_async_context(world.node("a"))
            async with world.match(fresh("room")) as (one, two):
                async with playing(one, two):
                    await until(lambda: one.sent >= 10)
                await until(lambda: one.connection.seat.ack == one.sent)
                a.runtime.handing_over = True  # as SIGTERM says
                await first.aclose()
                world.nodes.clear()
                async with world.node("b"), playing():
                    await until(lambda: one.connection.seat.epoch == 2, within_s=30)
                    for client in (one, two):
                        await client.check()

    runs(scenario())


@pytest.mark.parametrize("victim", ["source", "target", "fleet"])
def test_match_survives_a_kill_while_it_moves(tmp_path: Path, runs: Runs, victim: str) -> None:
    async def scenario() -> None:
        dice = random.Random(victim)
        wish = whole.wish(tmp_path, room_nodes=2)
        async with (
            stack.Stack(wish) as running,
            whole.on_bus(running) as bus,
            whole.playing(running.url, "duel", "skirmish") as players,
            rpc.channel(running.address("fleet/grpc"), name="test") as channel,
        ):
            stub: Any = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
            room_id = players[0].room.seat.room_id
            await asyncio.sleep(1.5)
            source = whole.process_of(await whole.own(bus, room_id))
            target = "room-state-1" if source == "room-state-2" else "room-state-2"
            request = fleet_admin_pb2.MoveRoomRequest(room_id=room_id)
            moving = asyncio.ensure_future(stub.MoveRoom(request, timeout=20))
            await asyncio.sleep(dice.uniform(0.0, 0.03))
            running.kill({"source": source, "target": target, "fleet": "fleet"}[victim])
            with contextlib.suppress(grpc.aio.AioRpcError):
                await moving
            steps = [len(player.seen.steps) for player in players]
            for player, count in zip(players, steps, strict=True):
                await whole.until(lambda p=player, n=count: len(p.seen.steps) > n + 60)
                player.seen.check()
                assert player.room.joins == 1, player.room.breaks
                assert player.room.ended is None

    runs(scenario())


def test_terminated_node_hands_its_match_over(tmp_path: Path, runs: Runs) -> None:
    async def scenario() -> None:
        async with (
            stack.Stack(whole.wish(tmp_path, room_nodes=2)) as running,
            whole.on_bus(running) as bus,
            whole.playing(running.url, "duel", "skirmish") as players,
        ):
            await asyncio.sleep(1.0)
            source = whole.process_of(await whole.own(bus, players[0].room.seat.room_id))
            await running.hold(source)  # SIGTERM, and waits for its end
            await whole.until(whole.resumed(players, 2))
            for player in players:
                player.seen.check()
                (left_at, left_tick), (back_at, back_tick) = player.seen.last(1), player.seen.next()
                assert (player.room.joins, player.room.ended) == (1, None)
                assert back_tick > left_tick, "play was lost"
                assert back_at - left_at < 1.5
                print(f"{(back_at - left_at) * 1e3:.0f} ms between two frames")

    runs(scenario())
