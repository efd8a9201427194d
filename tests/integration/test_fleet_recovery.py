"""Rooms of dead nodes go on elsewhere: what fleet does, on real brokers with small nodes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import pytest
from tests.integration.conftest import Runs
from tests.integration.fleet_stack import Peer, Stack, fleet_stack, running_fleet, until

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2, snapshot_pb2
from rallypoint.kit import errors, keys, subjects
from rallypoint.kit.names import QueueName, RoomId, SetName
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]
LAYOUT = errors.FailedPrecondition("SNAPSHOT_LAYOUT", "other columns")


async def saved(stack: Stack, room: str) -> None:
    """Store a snapshot, as the room's node would."""
    data = snapshot_pb2.RoomSnapshot(room_id=room, epoch=1, game="skirmish").SerializeToString()
    await stack.bus.kv("rooms").put(subjects.snapshot(RoomId(room)), data)


async def played(stack: Stack, room: str) -> None:
    """A room with a snapshot."""
    await stack.allocate(room)
    await saved(stack, room)


async def owned(stack: Stack, room: str, peer: Peer, epoch: int) -> bool:
    """Whether a peer runs the room under an epoch, and everybody says so."""
    own, claim = await stack.own(room), await claim_of(stack, room)
    return (
        own is not None
        and (own.node_id, own.incarnation, own.epoch) == (peer.node_id, peer.incarnation, epoch)
        and claim == f"R|{peer.node_id}|{peer.incarnation}|{epoch}"
        and peer.rooms.get(room) == epoch
    )


async def claim_of(stack: Stack, room: str) -> str:
    found = await stack.store.hget(keys.fleet_claims(SetName(stack.set_name)), room)
    return (found or b"").decode()


async def gone(stack: Stack, room: str) -> bool:
    """Whether nothing is left of a room."""
    kv = stack.bus.kv("rooms")
    left = [await kv.get(key(RoomId(room))) for key in (subjects.own, subjects.snapshot)]
    return left == [None, None] and not await claim_of(stack, room)


async def fact_of(stack: Stack, event: subjects.RoomEvent, room: str) -> events_pb2.RoomFact:
    feed = stack.bus.ordered("ROOMS", subjects.room(event, RoomId(room)))
    async with asyncio.timeout(30):
        return events_pb2.RoomFact.FromString((await anext(feed)).data)


def test_rooms_of_a_dead_node_go_on_at_others(runs: Runs, brokers: Brokers, fresh: Fresh) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            dying, rooms = await stack.node(capacity=3), [fresh("room") for _ in range(3)]
            for room in rooms:
                await played(stack, room)
            others = [await stack.node(capacity=2), await stack.node(capacity=2)]
            await dying.kill()
            for room in rooms:
                await until(functools.partial(_somewhere, stack, room, others))
            assert sorted([len(other.rooms) for other in others]) == [1, 2]
            fact = await fact_of(stack, "migrated", rooms[0])
            assert (fact.epoch, fact.reason) == (2, "NODE_DIED")
            again = await stack.allocate(rooms[0])
            assert (again.node_id, again.epoch) == (fact.node_id, 2)

    runs(scenario())


async def _somewhere(stack: Stack, room: str, peers: list[Peer]) -> bool:
    return any([await owned(stack, room, peer, 2) for peer in peers])


def test_room_goes_on_at_its_own_node_after_a_restart(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), silence_s=600.0) as stack:
            node, room = await stack.node(), fresh("room")
            await played(stack, room)
            await node.restart()
            await until(lambda: owned(stack, room, node, 2))

    runs(scenario())


def test_room_without_a_free_slot_waits_for_one(runs: Runs, brokers: Brokers, fresh: Fresh) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            await node.kill()
            await until(lambda: _nobody(stack))
            await asyncio.sleep(0.5)
            assert (await stack.own(room)) is not None
            other = await stack.node()
            await until(lambda: owned(stack, room, other, 2))

    runs(scenario())


async def _nobody(stack: Stack) -> bool:
    return not await stack.nodes()


@pytest.mark.parametrize("refusal", [LAYOUT, None], ids=["unfit", "full"])
def test_room_that_finds_no_place_in_time_is_lost(
    runs: Runs, brokers: Brokers, fresh: Fresh, refusal: errors.RallypointError | None
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), recovery_wait_s=1.0) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            other = await stack.node(capacity=0 if refusal is None else 1)
            other.restore_refusal = refusal
            await node.kill()
            await until(lambda: gone(stack, room))
            reason = "FLEET_FULL" if refusal is None else "SNAPSHOT_LAYOUT"
            assert (await fact_of(stack, "lost", room)).reason == reason

    runs(scenario())


def test_room_goes_to_the_node_whose_version_can_take_it(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            newer, older = await stack.node(capacity=2), await stack.node(capacity=3)
            newer.restore_refusal = LAYOUT
            await node.kill()
            await until(lambda: owned(stack, room, older, 3))
            assert await stack.claimed(newer) == 0

    runs(scenario())


def test_unreadable_snapshot_is_given_up_at_once(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), recovery_wait_s=600.0) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            other = await stack.node()
            other.restore_refusal = errors.FailedPrecondition("SNAPSHOT_MALFORMED", "bad")
            await node.kill()
            await until(lambda: gone(stack, room))
            assert (await fact_of(stack, "lost", room)).reason == "SNAPSHOT_MALFORMED"

    runs(scenario())


def test_stored_result_of_a_dead_node_is_published(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node = await stack.node(capacity=1)
            room, queue = fresh("room"), fresh("queue")
            await played(stack, room)
            other = await stack.node()
            fact = events_pb2.ResultFact(
                queue=queue, epoch=1, result=room_pb2.MatchResult(match_id=room, rated=True)
            )
            await stack.bus.kv("rooms").put(
                subjects.result_key(RoomId(room)), fact.SerializeToString()
            )
            await node.kill()
            feed = stack.bus.ordered("RESULTS", subjects.result(QueueName(queue)))
            async with asyncio.timeout(30):
                published = await anext(feed)
            assert events_pb2.ResultFact.FromString(published.data) == fact
            await until(lambda: gone(stack, room))
            assert other.restores == []
            kept = await stack.bus.kv("rooms").get(subjects.result_key(RoomId(room)))
            assert kept is not None, "gateways tell the players"
            assert kept.value == fact.SerializeToString()

    runs(scenario())


@pytest.mark.parametrize("step", ["claimed", "owned"])
def test_move_that_another_fleet_began_is_ended(
    runs: Runs, brokers: Brokers, fresh: Fresh, step: str
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            other = await stack.node()
            assert stack.runtime is not None
            stack.runtime.stopping.set()
            await node.kill()
            await stack.bus.kv("nodes").purge(node.node_id)
            await _claim_for_move(stack, room, node, other)
            if step == "owned":
                own = events_pb2.OwnRecord(
                    node_id=other.node_id, incarnation=other.incarnation, epoch=2,
                    set=stack.set_name, address=f"127.0.0.1:{other.port}",
                )  # fmt: skip
                key = subjects.own(RoomId(room))
                await stack.bus.kv("rooms").put(key, own.SerializeToString())
            async with running_fleet(stack):
                await until(lambda: owned(stack, room, other, 2))
                assert await stack.claimed(other) == 1

    runs(scenario())


async def _claim_for_move(stack: Stack, room: str, node: Peer, other: Peer) -> None:
    """The claim as a fleet leaves it that dies in a move, its time over."""
    set_name = SetName(stack.set_name)
    claim = f"M|{other.node_id}|{other.incarnation}|2"
    await stack.store.hset(keys.fleet_claims(set_name), {room: claim.encode()})
    await stack.store.hset(
        keys.fleet_used(set_name), {f"{other.node_id}|{other.incarnation}": b"1"}
    )
    await stack.store.zadd(keys.fleet_expiry(set_name), {room: 1})


def test_room_that_waits_for_a_node_survives_the_end_of_fleet(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            other = await stack.node(capacity=1)
            other.restore_refusal = errors.Unavailable("NOT_NOW")
            await node.kill()
            await until(lambda: _tried(other, 3))
            assert stack.runtime is not None
            stack.runtime.stopping.set()
            stack.runtime.cancel_spawned()
            other.restore_refusal = None
            async with running_fleet(stack):
                await until(lambda: _runs(stack, room, other))
                assert await stack.claimed(other) == 1

    runs(scenario())


def test_node_without_nats_is_asked_again_and_no_other(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), moving_s=60.0) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            others = [await stack.node(), await stack.node()]
            for other in others:
                other.restore_refusal = errors.Unavailable("BUS_UNAVAILABLE")
            await node.kill()
            await until(lambda: _tried_by_one(others, 2))
            for other in others:
                other.restore_refusal = None
            await until(functools.partial(_somewhere, stack, room, others))
            assert sorted(len(other.rooms) for other in others) == [0, 1]

    runs(scenario())


async def _tried_by_one(peers: list[Peer], times: int) -> bool:
    counts = sorted(len(peer.restores) for peer in peers)
    assert counts[0] == 0
    return counts[1] >= times


async def _tried(peer: Peer, times: int) -> bool:
    return len(peer.restores) >= times


async def _runs(stack: Stack, room: str, peer: Peer) -> bool:
    return await owned(stack, room, peer, peer.rooms.get(room, 0))


def test_zombie_is_told_to_close_what_went_on_elsewhere(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=1), fresh("room")
            await played(stack, room)
            other = await stack.node()
            node.frozen = True
            await until(lambda: owned(stack, room, other, 2))
            await asyncio.sleep(2.0)
            node.frozen = False
            await stack.until_known(node)
            await until(lambda: _holds_nothing(node))
            assert other.rooms == {room: 2}

    runs(scenario())


async def _holds_nothing(peer: Peer) -> bool:
    return not peer.rooms
