"""A room that moves: what a gateway holds back, and where it goes when the move is over."""

from __future__ import annotations

from tests.unit.gateway.test_rooms_node import World, frame, run

from rallypoint.gateway.domain.holding import MAX_AGE_S, PER_SEAT, HeldInputs
from rallypoint.gateway.domain.sync import Phase
from rallypoint.gateway.rooms_board import Counts
from rallypoint.gateway.rooms_inputs import Grip, PlainInputs
from rallypoint.gateway.rooms_moves import Moves
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_registry import Place
from rallypoint.internal.v1 import room_host_pb2 as host

HOLD, MOVED, STAYED = (
    host.ROOM_MOVE_PHASE_HOLD,
    host.ROOM_MOVE_PHASE_MOVED,
    host.ROOM_MOVE_PHASE_STAYED,
)


class Moving(World):
    """A world whose nodes say that its room moves."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.board.on_move = Moves(self.board, self.registry).take
        self.inputs = PlainInputs(self.board, {}, now_s=self.clock)
        self.node.link.attached = True

    def says(self, phase: host.RoomMovePhase.ValueType) -> None:
        move = host.RoomMove(room_id="room", phase=phase, address="node:2", epoch=2)
        self.receive(host.AttachResponse(moves=[move]))

    def send(self, seat: bytes, what: bytes) -> None:
        grip = Grip(self.room, "g1", 2e9, host.SeatRef(), seat)
        self.inputs.forward(grip, what, now=self.loop_time)

    @property
    def next_node(self) -> Node:
        return self.nodes["node:2"]


def sent(node: Node) -> list[bytes]:
    """Inputs on their way to a node, without their heads."""
    return [data[2:] for data in node.link._inputs]


def asked(node: Node) -> list[tuple[int, int]]:
    """Seats asked for: client and generation."""
    joins = node.link._control.joins or node.greeting().joins
    return [(join.client, join.generation) for join in joins]


def test_inputs_wait_and_follow_the_room() -> None:
    async def scenario(world: Moving) -> None:
        stream, _ = world.join()
        world.send(b"s", b"1")
        world.says(HOLD)
        assert "node:2" in world.nodes  # its link is opened while the room still stands still
        world.send(b"s", b"2")
        world.send(b"s", b"3")
        assert sent(world.node) == [b"s1"]
        world.next_node.link.attached = True
        world.says(MOVED)
        assert (world.room.node, world.room.placed_epoch) == (world.next_node, 2)
        assert asked(world.next_node) == [(stream.client, 1)]
        assert sent(world.next_node) == [b"s2", b"s3"]
        world.send(b"s", b"4")
        assert sent(world.next_node) == [b"s2", b"s3", b"s4"]

    run(scenario, Moving)


def test_room_that_stays_gets_what_was_held() -> None:
    async def scenario(world: Moving) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream))
        world.says(HOLD)
        world.send(b"s", b"1")
        world.says(STAYED)
        assert sent(world.node) == [b"s1"]
        world.frames(frame(2, 1, stream))
        assert outlet.ticks() == ["0>1", "1>2"]

    run(scenario, Moving)


def test_stream_sees_a_keyframe_of_the_next_epoch_and_nothing_else() -> None:
    async def scenario(world: Moving) -> None:
        stream, outlet = world.join()
        world.frames(frame(1, 0, stream))
        world.says(HOLD)
        world.next_node.link.attached = True
        world.says(MOVED)
        assert stream.phase is Phase.AWAY
        assert not world.board.lost
        world.node = world.next_node
        world.welcome(stream)
        world.frames(frame(2, 0, stream, epoch=2))
        world.frames(frame(3, 2, stream, epoch=2))
        assert outlet.kinds() == ["welcome", "0>1", "0>2", "2>3"]

    run(scenario, Moving)


def test_move_of_before_is_not_made_again_by_a_room_that_came_back() -> None:
    async def scenario(world: Moving) -> None:
        stream, _ = world.join()
        world.says(MOVED)
        world.registry.move(world.room, Place(world.node.address, 3))
        world.welcome(stream)
        world.says(MOVED)
        assert (world.room.node, world.room.placed_epoch) == (world.node, 3)
        assert stream.phase is Phase.FRESH

    run(scenario, Moving)


def test_held_inputs_follow_the_joins_of_a_link_that_comes_late() -> None:
    async def scenario(world: Moving) -> None:
        stream, _ = world.join()
        world.says(HOLD)
        world.send(b"s", b"1")
        world.says(MOVED)
        assert sent(world.next_node) == []
        greeting = world.next_node.greeting()
        assert [join.client for join in greeting.joins] == [stream.client]
        await world.room.settled()
        assert sent(world.next_node) == [b"s1"]

    run(scenario, Moving)


def test_broken_link_ends_the_hold() -> None:
    async def scenario(world: Moving) -> None:
        world.join()
        world.says(HOLD)
        world.send(b"s", b"1")
        world.node.link.attached = False
        world.node.detached()
        assert world.room.hold is None
        assert sent(world.node) == [b"s1"]  # the link holds it for its own while
        assert world.room in world.board.lost

    run(scenario, Moving)


def test_refused_join_is_asked_again_wherever_the_room_goes() -> None:
    async def scenario(world: Moving) -> None:
        for phase in (MOVED, STAYED):
            stream, _ = world.join(welcomed=False)
            world.node.link._control.Clear()
            refusal = host.ClientJoined(client=stream.client, code=14, reason="ROOM_MOVING")
            world.says(HOLD)
            world.receive(host.AttachResponse(joined=[refusal]))
            assert not stream.joined.done()
            world.says(phase)
            node = world.room.node
            assert node is not None
            assert stream.client in dict(asked(node))
            world.board.remove(stream)
            world.registry.move(world.room, Place(world.node.address, 1))

    run(scenario, Moving)


def test_at_most_so_many_inputs_are_held_and_only_for_a_moment() -> None:
    held = HeldInputs()
    for number in range(PER_SEAT + 3):
        held.put(b"a", b"%d" % number, now=1.0)
    held.put(b"b", b"other", now=1.0)
    assert held.given_up == 3
    assert held.take(1.0) == [b"%d" % n for n in range(3, PER_SEAT + 3)] + [b"other"]
    assert held.take(1.0) == []
    held.put(b"a", b"old", now=2.0)
    held.put(b"a", b"new", now=2.0 + MAX_AGE_S + 0.1)
    assert held.take(2.0 + MAX_AGE_S + 0.1) == [b"new"]


def test_counts_go_on_while_a_room_moves() -> None:
    async def scenario(world: Moving) -> None:
        world.says(HOLD)
        world.send(b"s", b"1")
        assert world.board.counts == Counts(inputs=1)

    run(scenario, Moving)
