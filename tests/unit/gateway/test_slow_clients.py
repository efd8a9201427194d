"""The ladder of slow clients: halved, a keyframe once drained, kicked; the others play on."""

from __future__ import annotations

import itertools

from tests.support.gateway_world import Outlet, World, frame, run

from rallypoint.gateway import rooms_ladder
from rallypoint.gateway.domain.sync import Phase
from rallypoint.gateway.rooms_stream import Stream
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.v1 import room_pb2

FIRST, FULL = 10, 8 + 6
"""The keyframe's tick; after so many ticks a connection that holds something counts as slow."""


class Match(World):
    """Two players in step, of whom one will read slowly."""

    def begin(self) -> None:
        self.slow, self.slow_outlet = self.join()
        self.good, self.good_outlet = self.join()
        self.frames(frame(FIRST, 0, self.slow, self.good))
        self.tick = FIRST

    def play(self, ticks: int, *, events: bool = False) -> None:
        for _ in range(ticks):
            self.tick += 1
            self.loop_time += 0.05
            happened = (self.tick,) if events else ()
            self.frames(frame(self.tick, self.tick - 1, self.slow, self.good, events=happened))
            if self.tick % 2:
                self.sweep.once(self.loop_time)

    def keyframe(self, stream: Stream, *, events: tuple[int, ...] = ()) -> None:
        self.tick += 1
        self.frames(frame(self.tick, 0, stream, events=events))

    def pace(self, stream: Stream, pace: host.Pace.ValueType) -> None:
        self.receive(host.AttachResponse(paces=[host.ClientPace(client=stream.client, pace=pace)]))


def spans(outlet: Outlet) -> list[tuple[int, int]]:
    """Base and tick of each frame sent."""
    return [(int(base), int(tick)) for base, tick in (kind.split(">") for kind in outlet.ticks())]


def chained(outlet: Outlet) -> bool:
    """Whether each delta builds on the frame before it."""
    sent = spans(outlet)
    return all(base in (0, before) for (_, before), (base, _) in itertools.pairwise(sent))


def test_connection_that_fills_is_halved_and_others_are_not() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.slow_outlet.pipe.unread = 50
        match.play(6)
        assert match.slow.phase is Phase.HALVED
        assert match.slow_outlet.kinds()[-1] == rooms_ladder.HALF_RATE
        match.slow_outlet.pipe.unread = 0
        match.play(20)
        assert spans(match.slow_outlet)[-3:] == [(30, 32), (32, 34), (34, 36)]
        assert chained(match.slow_outlet)
        assert [tick for _, tick in spans(match.good_outlet)] == list(range(FIRST, match.tick + 1))

    run(scenario, Match)


def test_frames_wait_as_one_while_something_is_unsent() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.slow_outlet.pipe.unread = 50
        match.play(20)
        assert spans(match.slow_outlet) == [(0, FIRST)]
        match.slow_outlet.pipe.unread = 0
        match.sweep.once(match.loop_time)
        assert spans(match.slow_outlet) == [(0, FIRST), (FIRST, FIRST + 20)]

    run(scenario, Match)


def test_who_keeps_up_again_gets_every_frame() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.play(60)
        assert match.slow.phase is Phase.HALVED
        match.pace(match.slow, host.PACE_FULL)
        match.play(44)
        assert match.slow.phase is Phase.IN_STEP
        assert match.slow.client in match.node.in_step
        assert match.slow_outlet.kinds().count(rooms_ladder.FULL_RATE) == 1
        match.play(5)
        assert spans(match.slow_outlet)[-5:] == spans(match.good_outlet)[-5:]
        assert chained(match.slow_outlet)

    run(scenario, Match)


def test_relapse_makes_it_wait_longer() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        stays = []
        for _ in range(3):
            match.pace(match.slow, host.PACE_HALF)
            match.pace(match.slow, host.PACE_FULL)
            assert match.slow.slow is not None
            stays.append(match.slow.slow.stay_s)
            while match.slow.phase is Phase.HALVED:
                match.play(2)
        assert stays == [2.0, 4.0, 8.0]

    run(scenario, Match)


def test_who_is_far_behind_gets_nothing_but_a_keyframe_once_drained() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.node.link.attached = True
        match.slow_outlet.pipe.unread = 50
        match.play(FULL + rooms_ladder.MOST_MERGED)
        assert match.slow.phase is Phase.BEHIND
        assert match.slow.asked_at == float("-inf")
        match.slow_outlet.pipe.unread = 0
        match.play(2)
        assert match.slow.asked_at > match.loop_time - 0.2
        match.keyframe(match.slow)
        assert match.slow.phase is Phase.HALVED
        assert spans(match.slow_outlet)[-1] == (0, match.tick)
        assert chained(match.slow_outlet)

    run(scenario, Match)


def test_events_of_withheld_frames_come_with_the_keyframe_once() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HOLD)
        match.play(30, events=True)
        match.keyframe(match.slow, events=tuple(range(31, 41)))
        assert match.slow_outlet.events() == list(range(11, 41))
        assert match.good_outlet.events() == list(range(11, 41))

    run(scenario, Match)


def test_events_of_what_could_not_be_written_come_with_the_keyframe() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.slow_outlet.pipe.unread = 1_000
        match.play(5, events=True)  # the first of them is not written
        match.keyframe(match.slow, events=(15, 16))  # nor is this
        assert match.slow.phase is Phase.BEHIND
        assert match.slow_outlet.events() == []
        match.slow_outlet.pipe.unread = 0
        match.keyframe(match.slow)
        assert match.slow_outlet.events() == list(range(11, 17))

    run(scenario, Match)


def test_events_of_a_merged_frame_that_could_not_be_written_are_kept() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.slow_outlet.pipe.unread = 50
        match.play(5, events=True)
        slow = match.slow.slow
        assert slow is not None
        merged = slow.send()
        match.slow_outlet.pipe.unread = 1_000
        ((slot, problem),) = match.fan_out.push([match.slow.slot], [merged])
        match.node.missed(slot, problem)
        match.slow_outlet.pipe.unread = 0
        match.keyframe(match.slow)
        assert match.slow_outlet.events() == list(range(11, 16))

    run(scenario, Match)


def test_who_could_not_be_sent_too_many_events_is_kicked() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.slow_outlet.pipe.unread = 1_000
        many = tuple(range(rooms_ladder.MOST_EVENTS + 1))
        match.frames(frame(FIRST + 1, FIRST, match.slow, match.good, events=many))
        assert match.slow.phase is Phase.ENDED
        assert match.good_outlet.events() == list(many)

    run(scenario, Match)


def test_hold_is_over_when_the_room_says_so() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.node.link.attached = True
        match.pace(match.slow, host.PACE_HOLD)
        match.play(20)
        assert match.slow.asked_at == float("-inf")
        match.pace(match.slow, host.PACE_HALF)
        match.play(2)
        assert match.slow.asked_at > match.loop_time - 0.2

    run(scenario, Match)


def test_who_is_behind_for_ten_seconds_is_kicked_with_a_reason() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.slow_outlet.pipe.unread = 1_000
        match.play(5)
        assert match.slow.phase is Phase.BEHIND
        for _ in range(101):
            match.loop_time += 0.1
            match.sweep.once(match.loop_time)
        assert match.slow_outlet.kinds()[-1] == rooms_ladder.SLOW_CONSUMER
        assert match.slow_outlet.error is not None
        assert match.slow_outlet.error.reason == rooms_ladder.SLOW_CONSUMER
        assert match.slow_outlet.pipe.aborted
        assert not match.good_outlet.closed
        assert list(match.board.by_slot.values()) == [match.good]

    run(scenario, Match)


def test_who_would_miss_events_is_kicked() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HOLD)
        match.play(rooms_ladder.MOST_EVENTS, events=True)
        assert not match.slow_outlet.closed
        match.play(1, events=True)
        assert match.slow_outlet.kinds()[-1] == rooms_ladder.SLOW_CONSUMER
        assert match.slow.phase is Phase.ENDED

    run(scenario, Match)


def test_what_waits_for_a_client_is_bounded() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.slow_outlet.pipe.unread = 50
        match.play(31, events=True)
        slow = match.slow.slow
        assert slow is not None
        assert 0 < len(slow.waiting) < 1_000
        match.play(9, events=True)
        assert (slow.waiting, len(slow.events)) == (b"", 40)

    run(scenario, Match)


def test_last_state_comes_before_the_last_word() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.play(1)
        closed = room_pb2.Control(kind=room_pb2.CONTROL_KIND_CLOSED, reason="OVER")
        clients = [match.slow.client, match.good.client]
        said = host.RoomControl(room_id="room", clients=clients, control=closed)
        match.receive(host.AttachResponse(controls=[said]))
        assert match.slow_outlet.kinds()[-2:] == [f"{FIRST}>{FIRST + 1}", "OVER"]

    run(scenario, Match)


def test_higher_epoch_voids_what_waited_but_not_what_happened() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        match.slow_outlet.pipe.unread = 50
        match.play(5, events=True)
        match.slow_outlet.pipe.unread = 0
        match.frames(frame(12, 0, match.slow, match.good, epoch=2))
        assert match.slow.phase is Phase.HALVED
        assert spans(match.slow_outlet)[-1] == (0, 12)
        assert match.slow_outlet.events() == list(range(11, 16))

    run(scenario, Match)


def test_gap_between_frames_is_never_merged() -> None:
    async def scenario(match: Match) -> None:
        match.begin()
        match.pace(match.slow, host.PACE_HALF)
        late = frame(13, 12, match.slow, events=(2,))
        match.frames(frame(11, 10, match.slow, events=(1,)), late)
        assert match.slow.phase is Phase.BEHIND
        assert spans(match.slow_outlet) == [(0, FIRST)]
        match.keyframe(match.slow)
        assert match.slow_outlet.events() == [1, 2]

    run(scenario, Match)
