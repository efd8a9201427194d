"""A node that speaks again after a long silence: what its rooms' streams get, and when."""

from __future__ import annotations

from tests.support.gateway_world import Outlet, World, frame, run

from rallypoint.gateway.domain.sync import Phase
from rallypoint.gateway.rooms_recovery import SURE_S, Recovery
from rallypoint.gateway.rooms_registry import Place
from rallypoint.gateway.rooms_stream import Stream
from rallypoint.gateway.rooms_sweep import DOUBTFUL_S
from rallypoint.internal.v1 import room_host_pb2 as host

GIVE_UP_S = 30.0


class Doubting(World):
    """A world whose room is looked for, and its node attached."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.recovery = Recovery(self.board, self.registry, give_up_s=GIVE_UP_S)
        self.node.link.attached = True
        self.room.placed_epoch = 1
        self.places["room"] = Place("node:1", 1)

    def play(self) -> tuple[Stream, Outlet]:
        """A stream that has got a frame."""
        stream, outlet = self.join()
        self.loop_time += 0.1
        self.frames(frame(1, 0, stream))
        return stream, outlet

    async def passes(self, seconds: float) -> None:
        """Let time pass in silence."""
        for _ in range(round(seconds / 0.1)):
            self.loop_time += 0.1
            self.sweep.once(self.loop_time)
            await self.recovery.once()

    def asked(self) -> list[int]:
        """The clients whose seats were asked for since."""
        joins = [join.client for join in self.node.link._control.joins]
        self.node.link._control.Clear()
        return joins

    def refuse(self, stream: Stream) -> None:
        refusal = host.ClientJoined(client=stream.client, code=5, reason="ROOM_UNKNOWN")
        self.receive(host.AttachResponse(joined=[refusal]))


def test_who_comes_or_comes_back_in_doubt_waits_as_well() -> None:
    async def scenario(world: Doubting) -> None:
        old, old_outlet = world.play()
        await world.passes(DOUBTFUL_S + 0.5)
        assert world.room.doubted_at is not None
        new, new_outlet = world.join()
        world.welcome(old)  # its link broke and is back
        world.frames(frame(2, 0, old, new))
        world.frames(frame(3, 2, old, new))
        assert (old_outlet.ticks(), new_outlet.ticks()) == (["0>1"], [])
        world.node.link._control.Clear()
        await world.passes(SURE_S + 0.3)
        assert world.room.doubted_at is None
        assert {old.client, new.client} <= set(world.node.link._control.resyncs)
        world.frames(frame(4, 0, old, new))
        world.frames(frame(5, 4, old, new))
        assert (old_outlet.ticks(), new_outlet.ticks()) == (["0>1", "0>4", "4>5"], ["0>4", "4>5"])

    run(scenario, Doubting)


def test_seats_are_asked_for_again_once_the_node_is_believed() -> None:
    async def scenario(world: Doubting) -> None:
        stream, outlet = world.play()
        await world.passes(DOUBTFUL_S + 0.5)
        world.asked()
        world.frames(frame(2, 1, stream))
        await world.passes(SURE_S + 0.3)
        assert world.asked() == [stream.client]
        world.welcome(stream)
        world.frames(frame(3, 0, stream))
        assert outlet.ticks() == ["0>1", "0>3"]
        assert world.room not in world.board.lost

    run(scenario, Doubting)


def test_node_that_has_not_got_the_room_is_asked_again() -> None:
    async def scenario(world: Doubting) -> None:
        stream, outlet = world.play()
        await world.passes(DOUBTFUL_S + 0.5)
        for _ in range(4):  # as of one that came back, and is to restore the room
            world.refuse(stream)
            world.asked()
            await world.passes(1.0)
            assert stream.client in world.asked()
        world.welcome(stream)
        world.frames(frame(1, 0, stream))
        assert stream.phase is Phase.IN_STEP
        assert not outlet.closed

    run(scenario, Doubting)


def test_next_node_is_not_doubted_for_the_silence_of_the_last() -> None:
    async def scenario(world: Doubting) -> None:
        stream, outlet = world.play()
        await world.passes(DOUBTFUL_S + 0.5)
        world.places["room"] = Place("node:2", 2)
        await world.passes(0.1)
        world.node = world.nodes["node:2"]
        world.node.link.attached = True
        world.refuse(stream)  # it has not restored the room yet
        world.asked()
        await world.passes(2.0)
        assert stream.client in world.asked()
        world.welcome(stream)
        world.frames(frame(1, 0, stream, epoch=2))
        assert stream.phase is Phase.IN_STEP
        assert not outlet.closed

    run(scenario, Doubting)


def test_room_that_nobody_here_played_for_a_while_is_not_doubted() -> None:
    async def scenario(world: Doubting) -> None:
        stream, _ = world.play()
        world.board.remove(stream)
        world.loop_time += DOUBTFUL_S * 2
        world.sweep.once(world.loop_time)
        stream, outlet = world.join()
        world.loop_time += 0.1
        world.sweep.once(world.loop_time)
        world.frames(frame(100, 0, stream))
        assert outlet.ticks() == ["0>100"]

    run(scenario, Doubting)


def test_silent_node_is_not_waited_for_for_good() -> None:
    async def scenario(world: Doubting) -> None:
        _, outlet = world.play()
        await world.passes(DOUBTFUL_S + 0.5 + 2 * (GIVE_UP_S + SURE_S + 1))
        assert outlet.closed
        assert outlet.kinds()[-1] == "ROOM_LOST"

    run(scenario, Doubting)
