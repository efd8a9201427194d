"""What a node's responses do to client streams: who gets which frame, and who must wait."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.backends import backends
from tests.support.gateway_world import World, frame, run

from rallypoint.gateway.domain.sync import Event, Phase
from rallypoint.gateway.rooms_recovery import Recovery
from rallypoint.gateway.rooms_registry import Place, Registry
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

Said = tuple[int, int, set[int], int]
"""Epoch, base tick, which streams, how much later."""
any_said = st.tuples(
    st.integers(1, 2), st.sampled_from([0, 1]), st.sets(st.integers(0, 2)), st.integers(0, 1)
)


@given(flushes=st.lists(st.lists(any_said, max_size=4), max_size=6))
@settings(max_examples=60)
def test_backends_pass_on_the_same_and_note_the_same(flushes: list[list[Said]]) -> None:
    async def seen(world: World) -> object:
        streams, outlets = zip(
            *(world.join(welcomed=number < 2) for number in range(3)), strict=True
        )
        tick = 1
        for flush in flushes:
            said = []
            for epoch, base, which, later in flush:
                world.loop_time += later
                tick += 1
                said.append(
                    frame(tick, base * (tick - 1), *(streams[n] for n in which), epoch=epoch)
                )
            world.frames(*said)
        return (
            [outlet.kinds() for outlet in outlets],
            [stream.phase for stream in streams],
            (world.room.full_at, world.room.rhythm.seen_at, world.room.epoch),
            world.board.counts,
        )

    first, *others = [asyncio.run(seen(World(backend))) for backend in backends()]
    assert others == [first] * len(others)


def test_new_stream_gets_no_delta_before_its_keyframe() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.frames(frame(5, 4, stream))
        world.frames(frame(6, 0, stream))
        world.frames(frame(7, 6, stream))
        assert outlet.ticks() == ["0>6", "6>7"]

    run(scenario)


def test_second_tick_of_one_flush_waits_for_the_first() -> None:
    async def scenario(world: World) -> None:
        slow, slow_outlet = world.join()
        quick, quick_outlet = world.join()
        world.frames(frame(1, 0, slow, quick))
        slow_outlet.pipe.unread = 1_000
        world.frames(frame(2, 1, slow, quick), frame(3, 2, slow, quick))
        slow_outlet.pipe.unread = 0
        world.frames(frame(4, 3, slow, quick))
        assert slow_outlet.ticks() == ["0>1"]
        assert quick_outlet.ticks() == ["0>1", "1>2", "2>3", "3>4"]
        assert slow.phase is Phase.BEHIND

    run(scenario)


def test_keyframe_is_asked_for_once_the_reader_reads() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.node.link.attached = True
        world.frames(frame(1, 0, stream))
        outlet.pipe.unread = 1_000
        world.frames(frame(2, 1, stream))
        world.sweep.once(world.loop_time)
        assert stream.asked_at == float("-inf")
        outlet.pipe.unread = 0
        world.sweep.once(world.loop_time)
        assert stream.asked_at == world.loop_time
        world.frames(frame(3, 0, stream))
        assert stream.phase is Phase.HALVED

    run(scenario)


def test_slot_given_to_another_stream_gets_no_foreign_frames() -> None:
    async def scenario(world: World) -> None:
        gone, gone_outlet = world.join()
        world.frames(frame(1, 0, gone))
        gone_outlet.end()  # the client left; its handler has not heard of it yet
        after, after_outlet = world.join()
        assert after.slot == gone_outlet.slot
        world.frames(frame(2, 1, gone))
        assert after_outlet.kinds() == ["welcome"]
        assert after.phase is Phase.FRESH

    run(scenario)


def test_in_step_rooms_get_no_keep_alive_and_silent_ones_do() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream))
        for tick in range(2, 12):
            world.loop_time += 0.05
            world.frames(frame(tick, tick - 1, stream))
            world.sweep.once(world.loop_time)
        assert "empty" not in outlet.kinds()
        for _ in range(12):
            world.loop_time += 0.1
            world.sweep.once(world.loop_time)
        assert outlet.kinds().count("empty") in (2, 3)

    run(scenario)


def test_lower_epochs_are_dropped_and_higher_ones_need_a_keyframe() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream))
        world.frames(frame(2, 1, stream, epoch=3))
        world.frames(frame(3, 0, stream, epoch=2))
        world.frames(frame(4, 0, stream, epoch=3))
        assert outlet.ticks() == ["0>1", "0>4"]

    run(scenario)


def test_welcome_of_an_old_owner_lowers_no_epoch() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream, epoch=3))
        late, _ = world.join(welcomed=False)
        world.welcome(late, epoch=2)
        world.frames(frame(9, 0, stream, late, epoch=2))
        world.frames(frame(2, 0, stream, epoch=3))
        assert outlet.ticks() == ["0>1", "0>2"]

    run(scenario)


@pytest.mark.parametrize("older", [Place("node:1", 2), Place("node:9", 2)], ids=["same", "other"])
def test_older_record_moves_no_room(older: Place) -> None:
    """Whoever reads it, for a join or for a room that is lost, as when a broker lags."""

    async def scenario(world: World) -> None:
        world.places["room"] = Place("node:1", 3)
        room = await world.registry.find("room", fresh=True)
        world.room = room
        _, outlet = world.join()
        world.places["room"] = older
        assert await world.registry.find("room", fresh=True) is room
        world.board.lose(room)
        await Recovery(world.board, world.registry, give_up_s=30.0).once()
        assert (room.node, room.placed_epoch) == (world.node, 3)
        assert not outlet.closed

    run(scenario)


def test_broken_link_keeps_streams_and_asks_by_generation() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        waiting, _ = world.join(welcomed=False)
        stream.attempt, waiting.attempt = (5, 1), (6, 2)
        world.frames(frame(1, 0, stream))
        world.node.detached()
        first, second = world.node.greeting().joins
        assert (first.generation, list(first.seat_tokens)) == (1, [])
        assert (second.generation, list(second.seat_tokens)) == (0, [b"t"])
        assert (second.client_id, second.attempt, first.client_id) == (6, 2, 0)
        world.frames(frame(2, 1, stream))
        world.welcome(stream)
        world.frames(frame(3, 0, stream))
        assert outlet.kinds() == ["welcome", "0>1", "0>3"]
        assert waiting.phase is Phase.JOINING
        assert not world.board.lost

    run(scenario)


def test_seat_under_another_generation_asks_the_client_to_rejoin() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.node.detached()
        world.welcome(stream, generation=5)
        assert outlet.closed
        assert outlet.kinds() == ["welcome", "SEAT_CHANGED"]
        assert not world.room.streams

    run(scenario)


@pytest.mark.parametrize(
    ("place", "after_s", "said"),
    [
        (None, 0.0, ["welcome", "ROOM_LOST"]),
        (Place("node:1", 1), 5.0, ["welcome"]),
        (Place("node:1", 1), 31.0, ["welcome", "ROOM_LOST"]),
    ],
    ids=["no record", "same record", "same for too long"],
)
def test_lost_room_waits_or_ends(place: Place | None, after_s: float, said: list[str]) -> None:
    async def scenario(world: World) -> None:
        _, outlet = world.join()
        world.room.placed_epoch = 1
        world.places["room"] = place
        world.node.detached()
        world.loop_time += after_s
        await Recovery(world.board, world.registry, give_up_s=30.0).once()
        assert outlet.kinds() == said
        assert outlet.closed is (len(said) == 2)

    run(scenario)


def test_lost_room_goes_on_at_its_next_node() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.places["room"] = Place("node:2", 2)
        world.node.detached()
        await Recovery(world.board, world.registry, give_up_s=30.0).once()
        assert world.room.node is world.nodes["node:2"]
        assert not world.node.streams
        (asked,) = world.nodes["node:2"].greeting().joins
        assert (asked.client, asked.generation) == (stream.client, 1)
        assert not outlet.closed

    run(scenario)


def test_join_waiting_in_a_lost_room_is_answered() -> None:
    async def scenario(world: World) -> None:
        waiting, outlet = world.join(welcomed=False)
        joined, _ = world.join()
        world.node.detached()
        await Recovery(world.board, world.registry, give_up_s=30.0).once()
        with pytest.raises(errors.NotFound, match="ROOM_UNKNOWN"):
            await waiting.joined
        assert not outlet.closed
        assert not world.room.streams
        assert joined.phase is Phase.ENDED

    run(scenario)


@pytest.mark.parametrize("place", [Place("node:2", 2), Place("node:1", 1)], ids=["moved", "same"])
def test_silent_room_is_looked_up_and_stays_unless_it_moved(place: Place) -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.room.placed_epoch = 1
        world.places["room"] = place
        world.frames(frame(1, 0, stream))
        for _ in range(51):
            world.loop_time += 0.1
            world.sweep.once(world.loop_time)
        assert world.room in world.board.lost
        await Recovery(world.board, world.registry, give_up_s=30.0).once()
        assert world.room.node is world.nodes[place.address]
        assert not outlet.closed
        assert stream.phase is (Phase.AWAY if place.epoch == 2 else Phase.IN_STEP)

    run(scenario)


def test_seat_that_is_given_back_twice_is_had_once() -> None:
    """As by a slow node that was asked again."""

    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream))
        stream.step(Event.DETACHED)
        world.welcome(stream)
        world.frames(frame(2, 0, stream))
        world.welcome(stream)
        world.frames(frame(3, 2, stream))
        assert outlet.kinds() == ["welcome", "0>1", "0>2", "2>3"]
        world.welcome(stream, generation=2)
        assert outlet.kinds()[-1] == "SEAT_CHANGED"

    run(scenario)


def test_who_left_before_the_seat_was_given_leaves_it() -> None:
    """As in a room that comes to its node: the join waited there, the leave did not."""

    async def scenario(world: World) -> None:
        world.node.link.attached = True
        stream, _ = world.join(welcomed=False)
        world.node.leave(stream)
        world.board.remove(stream)
        world.node.link._control.Clear()
        world.welcome(stream)
        assert [left.client for left in world.node.link._control.leaves] == [stream.client]

    run(scenario)


def test_moved_control_is_passed_on_and_the_room_looked_up() -> None:
    async def scenario(world: World) -> None:
        stream, outlet = world.join()
        moved = room_pb2.Control(kind=room_pb2.CONTROL_KIND_MOVED, reason="DRAIN")
        said = host.RoomControl(room_id="room", clients=[stream.client], control=moved)
        world.receive(host.AttachResponse(controls=[said]))
        assert outlet.kinds() == ["welcome", "DRAIN"]
        assert world.room in world.board.lost

    run(scenario)


def test_recovery_waits_while_nats_is_away() -> None:
    async def scenario(world: World) -> None:
        _, outlet = world.join()

        async def unavailable(room_id: str) -> Place | None:
            raise errors.Unavailable("BUS_UNAVAILABLE")

        registry = Registry(world.board, unavailable, world.open_node)
        world.node.detached()
        world.loop_time += 100.0
        await Recovery(world.board, registry, give_up_s=30.0).once()
        assert not outlet.closed
        assert world.room in world.board.lost

    run(scenario)


def test_idle_rooms_and_nodes_are_forgotten() -> None:
    async def scenario(world: World) -> None:
        world.places["other"] = Place("node:9", 1)
        room = await world.registry.find("other")
        for now in (0.0, 30.0, 60.0, 120.0, 180.0):
            world.registry.sweep(now)
        assert room.node is None
        assert not list(world.registry.rooms)
        assert not list(world.registry.nodes)
        with pytest.raises(errors.NotFound, match="ROOM_UNKNOWN"):
            await world.registry.find("never-was")

    run(scenario)
