"""Allocate and everything that gives slots back, on real brokers and real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.integration.conftest import Runs
from tests.integration.fleet_stack import Peer, Stack, fleet_stack, running_fleet, until

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.operator.slots import Slots
from rallypoint.internal.v1 import allocation_pb2, events_pb2
from rallypoint.kit import bus_wire, errors, keys, subjects
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName

Fresh = Callable[[str], str]


def test_retried_allocate_returns_the_same_room_with_fresh_seats(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            first, again = await stack.allocate(room), await stack.allocate(room)
            assert (again.node_id, again.epoch) == (first.node_id, first.epoch) == (node.node_id, 1)
            assert [seat.player_id for seat in again.seats] == ["a", "b"]
            assert {seat.seat_token for seat in first.seats}.isdisjoint(
                seat.seat_token for seat in again.seats
            )
            assert await stack.claimed(node) == 1
            own = await stack.own(room)
            assert own is not None
            assert (own.node_id, own.incarnation, own.epoch) == (node.node_id, node.incarnation, 1)

    runs(scenario())


def test_concurrent_allocates_of_one_request_make_one_room(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            nodes, room = [await stack.node(), await stack.node()], fresh("room")
            replies = await asyncio.gather(*(stack.allocate(room) for _ in range(8)))
            # Each has an epoch in store; that of whoever came first to a new set's claims is taken.
            assert len({(reply.node_id, reply.epoch) for reply in replies}) == 1
            assert sum([await stack.claimed(node) for node in nodes]) == 1

    runs(scenario())


def test_rooms_pack_one_node_then_the_next_then_the_fleet_is_full(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            nodes = [await stack.node(capacity=2), await stack.node(capacity=2)]
            placed = [(await stack.allocate(fresh("room"))).node_id for _ in range(4)]
            first, second = (node.node_id for node in nodes)
            assert placed == [first, first, second, second]
            with pytest.raises(errors.ResourceExhausted) as refused:
                await stack.allocate(fresh("room"))
            assert refused.value.reason == "FLEET_FULL"
            assert refused.value.retry_after_s is not None

    runs(scenario())


def test_many_concurrent_allocates_never_overfill_a_node(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            nodes = [await stack.node(capacity=5) for _ in range(2)]
            replies = await asyncio.gather(
                *(stack.allocate(fresh("room")) for _ in range(15)), return_exceptions=True
            )
            refused = [reply for reply in replies if isinstance(reply, errors.ResourceExhausted)]
            assert len(refused) == 5
            assert [await stack.claimed(node) for node in nodes] == [5, 5]
            assert [len(node.rooms) for node in nodes] == [5, 5]

    runs(scenario())


def test_node_killed_while_creating_is_replaced_by_another(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            dying, other = await stack.node(), await stack.node()
            dying.die_on_create = True
            room = fresh("room")
            reply = await stack.allocate(room)
            assert (reply.node_id, reply.epoch) == (other.node_id, 2)
            own = await stack.own(room)
            assert own is not None
            assert (own.node_id, own.epoch) == (other.node_id, 2)
            assert (await stack.claimed(dying), await stack.claimed(other)) == (0, 1)

    runs(scenario())


def test_no_node_reachable_is_unavailable_and_holds_nothing(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            node.refusal = errors.Unavailable("OUT_OF_ORDER")
            with pytest.raises(errors.Unavailable) as refused:
                await stack.allocate(room)
            assert refused.value.reason == "NODE_UNREACHABLE"
            assert await stack.claimed(node) == 0
            node.refusal = None
            await until(lambda: _allocated(stack, room))

    runs(scenario())


def test_game_that_cannot_be_made_is_told_to_the_caller(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            node.refusal = errors.InvalidArgument("PLAYERS_INVALID")
            with pytest.raises(errors.InvalidArgument):
                await stack.allocate(room)
            assert (await stack.claimed(node), await stack.own(room)) == (0, None)

    runs(scenario())


def test_expired_claim_is_claimed_anew_with_a_higher_epoch(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            await _make_unconfirmed(stack, room, expires_ms=1)
            reply = await _retried(stack, room)
            assert reply.epoch == 2
            own = await stack.own(room)
            assert own is not None
            assert own.epoch == 2
            assert (node.rooms[room], await stack.claimed(node)) == (2, 1)

    runs(scenario())


def test_unconfirmed_claim_returns_to_free_and_its_room_is_closed(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            await _make_unconfirmed(stack, room, expires_ms=1)
            await until(lambda: _free(stack, 0))
            assert (node.closed, node.rooms) == ([room], {})
            assert await stack.own(room) is None

    runs(scenario())


def test_release_frees_the_slot_once_however_often(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room, other = await stack.node(), fresh("room"), fresh("room")
            await stack.allocate(room)
            await stack.allocate(other)
            for _ in range(3):
                await stack.release(room)
            assert await stack.claimed(node) == 1
            assert (await stack.own(room), list(node.rooms)) == (None, [other])

    runs(scenario())


def test_closed_room_frees_its_slot_but_not_that_of_a_later_epoch(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room, later = await stack.node(), fresh("room"), fresh("room")
            await stack.allocate(room)
            await stack.allocate(later)
            await _make_unconfirmed(stack, later, expires_ms=1)
            assert (await _retried(stack, later)).epoch == 2
            for closed in (later, room):
                await _publish_closed(stack, closed, epoch=1)
            await until(lambda: _free(stack, 1))
            assert await stack.claimed(node) == 1

    runs(scenario())


def test_fact_that_is_no_fact_of_a_room_is_put_aside_and_the_next_frees_its_slot(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            await stack.node()
            room, poison = fresh("room"), fresh("room")
            await stack.allocate(room)
            subject = subjects.room("closed", RoomId(poison))
            await stack.bus.publish_fact(subject, b"\xff\xff", msg_id=poison)
            await _publish_closed(stack, room, epoch=1)
            await until(lambda: _free(stack, 0))
            async with asyncio.timeout(20):
                async for letter in stack.bus.ordered("DEAD", subjects.dead("ROOMS", "*")):
                    if letter.headers[bus_wire.DEAD_SUBJECT] == subject:
                        break
            assert letter.headers[bus_wire.DEAD_REASON].startswith("FACT_MALFORMED")

    runs(scenario())


def test_dead_node_loses_its_rooms_and_says_so_once(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            await node.kill()
            feed = stack.bus.ordered("ROOMS", subjects.room("lost", RoomId(room)))
            async with asyncio.timeout(30):
                fact = events_pb2.RoomFact.FromString((await anext(feed)).data)
            assert (fact.node_id, fact.epoch, fact.set) == (node.node_id, 1, stack.set_name)
            await until(lambda: _no_own(stack, room))
            await until(lambda: _no_claims(stack))
            assert await stack.nodes() == {}

    runs(scenario())


def test_restarted_node_is_the_death_of_its_old_process_at_once(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set"), silence_s=600.0) as stack:
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            await node.restart()
            await until(lambda: _no_own(stack, room))
            await stack.until_known(node)
            assert (await _retried(stack, fresh("room"))).node_id == node.node_id
            assert await stack.claimed(node) == 1

    runs(scenario())


def test_frozen_node_comes_back_without_the_rooms_it_lost(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            node.frozen = True
            await until(lambda: _no_own(stack, room))
            await asyncio.sleep(2.0)
            node.frozen = False
            await stack.until_known(node)
            await until(lambda: _holds(node, []))
            other = fresh("room")
            await _retried(stack, other)
            assert (list(node.rooms), await stack.claimed(node)) == ([other], 1)

    runs(scenario())


def test_restarted_fleet_finds_claims_nodes_and_rooms_of_dead_nodes(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            dead, living = await stack.node(capacity=1), await stack.node()
            lost, kept = fresh("room"), fresh("room")
            assert (await stack.allocate(lost)).node_id == dead.node_id
            assert (await stack.allocate(kept)).node_id == living.node_id
            assert stack.runtime is not None
            stack.runtime.stopping.set()
            await dead.kill()
            await stack.bus.kv("nodes").purge(dead.node_id)
            async with running_fleet(stack):
                await until(lambda: _no_own(stack, lost))
                assert await stack.claimed(living) == 1
                assert (await stack.allocate(kept)).node_id == living.node_id

    runs(scenario())


def test_request_stays_in_the_set_it_was_first_asked_for(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            await stack.node()
            room = fresh("room")
            await stack.allocate(room)
            stack.set_name = fresh("other")
            with pytest.raises(errors.FailedPrecondition) as refused:
                await stack.allocate(room)
            assert refused.value.reason == "REQUEST_BOUND"

    runs(scenario())


@pytest.mark.parametrize("broker", ["redis", "nats"])
def test_allocate_works_again_after_a_broker_was_killed(
    runs: Runs, own_brokers: Brokers, fresh: Fresh, broker: str
) -> None:
    async def scenario() -> None:
        async with fleet_stack(own_brokers, fresh("set")) as stack:
            node, room, other = await stack.node(), fresh("room"), fresh("room")
            first = await stack.allocate(room)
            process = own_brokers.redis if broker == "redis" else own_brokers.nats
            process.kill()
            with pytest.raises(errors.Unavailable) as refused:
                await stack.allocate(other)
            assert refused.value.retry_after_s is not None
            await asyncio.to_thread(process.start)
            again = await _retried(stack, room)
            assert (again.node_id, again.epoch) == (first.node_id, first.epoch)
            await _retried(stack, other)
            assert await stack.claimed(node) == 2

    runs(scenario())


def test_lost_redis_is_rebuilt_from_ownership(
    runs: Runs, own_brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(own_brokers, fresh("set")) as stack:
            node, room = await stack.node(capacity=2), fresh("room")
            first = await stack.allocate(room)
            for what in (keys.fleet_claims, keys.fleet_used, keys.fleet_built):
                await stack.store.delete(what(SetName(stack.set_name)))
            await stack.store.delete(keys.fleet_bind(RoomId(room)), keys.FLEET_SETS)
            again = await stack.allocate(room)
            assert (again.node_id, again.epoch) == (first.node_id, first.epoch)
            await until(lambda: _free(stack, 1))
            assert await stack.claimed(node) == 1

    runs(scenario())


def test_unreadable_ownership_of_another_room_stops_nothing(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            await stack.bus.kv("rooms").put(subjects.own(RoomId(fresh("bad"))), b"\xff\xff")
            node, room = await stack.node(), fresh("room")
            await stack.allocate(room)
            await node.kill()
            await until(lambda: _no_own(stack, room))

    runs(scenario())


def test_allocate_waits_for_a_slot_as_long_as_it_is_told(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            node = await stack.node(capacity=1)
            first, second = fresh("room"), fresh("room")
            await stack.allocate(first)
            with pytest.raises(errors.ResourceExhausted, match="FLEET_FULL") as refused:
                await stack.allocate(second, wait_ms=300)
            assert refused.value.retry_after_s
            waiting = asyncio.create_task(stack.allocate(second, wait_ms=30_000), name="waiting")
            await asyncio.sleep(0.3)
            await stack.release(first)
            assert (await waiting).node_id == node.node_id

    runs(scenario())


def test_who_asks_for_a_game_that_no_server_has_grows_no_set(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            slots = Slots(stack.store, SystemClock())
            for _ in range(2):  # only the first counts, which finds no server at all
                with pytest.raises(errors.ResourceExhausted, match="FLEET_FULL"):
                    await stack.allocate(fresh("room"), game="chess")
                assert (await slots.look(SetName(stack.set_name))).unmet == 1
                await stack.node()

    runs(scenario())


def test_allocate_says_when_no_node_meets_its_wishes(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with fleet_stack(brokers, fresh("set")) as stack:
            await stack.node()
            moon = allocation_pb2.NodeSelector(match_labels={"region": "moon"})
            with pytest.raises(errors.ResourceExhausted, match="FLEET_UNMATCHED"):
                await stack.allocate(fresh("room"), selectors=[moon])
            with pytest.raises(errors.InvalidArgument, match="SELECTION_INVALID"):
                await stack.allocate(fresh("room"), selectors=[moon] * 9)
            anywhere = allocation_pb2.NodeSelector()
            await stack.allocate(fresh("room"), selectors=[moon, anywhere])

    runs(scenario())


async def _make_unconfirmed(stack: Stack, room: str, *, expires_ms: int) -> None:
    """Leave a room's claim as a fleet does that dies before it confirms."""
    set_name = SetName(stack.set_name)
    claim = await stack.store.hget(keys.fleet_claims(set_name), room)
    assert claim is not None
    await stack.store.hset(keys.fleet_claims(set_name), {room: b"C" + claim[1:]})
    await stack.store.zadd(keys.fleet_expiry(set_name), {room: expires_ms})


async def _publish_closed(stack: Stack, room: str, *, epoch: int) -> None:
    fact = events_pb2.RoomFact(
        room_id=room, event=events_pb2.ROOM_EVENT_CLOSED, epoch=epoch, set=stack.set_name
    )
    subject = subjects.room("closed", RoomId(room))
    await stack.bus.publish_fact(subject, fact.SerializeToString(), msg_id=f"closed.{room}.{epoch}")


async def _retried(stack: Stack, room: str) -> object:
    for _ in range(200):
        try:
            return await stack.allocate(room)
        except errors.Unavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("Allocate did not recover")


async def _allocated(stack: Stack, room: str) -> bool:
    try:
        await stack.allocate(room)
    except (errors.Unavailable, errors.ResourceExhausted):
        return False
    return True


async def _free(stack: Stack, used: int) -> bool:
    return sum((await stack.nodes()).values()) == used


async def _no_own(stack: Stack, room: str) -> bool:
    return await stack.own(room) is None


async def _holds(peer: Peer, rooms: list[str]) -> bool:
    return list(peer.rooms) == rooms


async def _no_claims(stack: Stack) -> bool:
    return not await stack.store.hgetall(keys.fleet_claims(SetName(stack.set_name)))
