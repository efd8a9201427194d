"""Who is sent to rooms that want players, and how they are counted."""

from __future__ import annotations

import random
from typing import Any

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors
from rallypoint.kit.clock import SystemClock
from rallypoint.matchmaking import backfill
from rallypoint.matchmaking.domain import queues
from rallypoint.matchmaking.domain.backfill import PAUSE_S, Searching, Wish, choose
from rallypoint.matchmaking.domain.pace import Pace
from rallypoint.matchmaking.lane import Lane


def wish(room_id: str = "room", seats: int = 2, level: float | None = None) -> Wish:
    return Wish(room_id, "node:1", seats, revision=1, level=level)


def searching(*names: str, skill: float = 1500.0, reach: float = 100.0) -> list[Searching]:
    return [Searching(f"t-{name}", name, skill, reach) for name in names]


def sent(wishes: list[Wish], players: list[Searching], now: float = 0.0) -> list[tuple[str, str]]:
    chosen = choose(wishes, players, now)
    for room, player in chosen:
        room.send(player.ticket_id)
    return [(room.room_id, player.player_id) for room, player in chosen]


def test_who_waits_longest_goes_first_and_no_more_than_wanted() -> None:
    rooms = [wish("a", 1), wish("b", 1)]
    assert sent(rooms, searching("ann", "bob", "cyd")) == [("a", "ann"), ("b", "bob")]
    assert sent(rooms, searching("cyd")) == []


def test_only_who_reaches_the_room_is_sent() -> None:
    room = wish(level=1600.0)
    assert sent([room], searching("far", skill=1400.0)) == []
    assert sent([room], searching("near", skill=1510.0)) == [("room", "near")]
    assert sent([room], searching("patient", skill=1000.0, reach=600.0)) == [("room", "patient")]


def test_who_came_is_counted_until_the_room_has_counted_them() -> None:
    room = wish(seats=1)
    assert sent([room], searching("ann")) == [("room", "ann")]
    room.came("t-ann")
    assert room.free(0.0) == 0
    room.said("node:1", seats=1, revision=2)  # it wants one more by now
    assert sent([room], searching("bob")) == [("room", "bob")]


def test_word_of_the_room_that_is_faster_than_the_answer_counts_nobody_twice() -> None:
    room = wish(seats=2)
    sent([room], searching("ann"))
    room.said("node:1", seats=1, revision=2)
    assert room.free(0.0) == 0, "whether ann is in it nobody knows yet"
    room.came("t-ann")
    assert room.free(0.0) == 1


def test_who_is_refused_does_not_come_again_but_others_do() -> None:
    room = wish(seats=1)
    sent([room], searching("ann"))
    room.failed("t-ann", "ann", until=None)
    assert sent([room], searching("ann", "bob")) == [("room", "bob")]


def test_room_out_of_reach_is_left_alone_for_a_while() -> None:
    room = wish(seats=1)
    sent([room], searching("ann"))
    room.failed("t-ann", "ann", until=PAUSE_S)
    assert sent([room], searching("ann"), now=PAUSE_S - 0.1) == []
    assert sent([room], searching("ann"), now=PAUSE_S) == [("room", "ann")]


def test_never_more_are_under_way_than_wanted_whatever_happens() -> None:
    dice = random.Random(3)
    room, revision = wish(seats=3), 1
    for number in range(2000):
        players = searching(*(f"p{number}-{index}" for index in range(dice.randrange(4))))
        sent([room], players, now=number * 10.0)
        assert len(room.under_way) <= max(3, room.seats)
        for ticket in list(room.under_way):
            match dice.randrange(3):
                case 0:
                    room.came(ticket)
                case 1:
                    room.failed(ticket, ticket, until=dice.choice([None, 0.0]))
        if dice.random() < 0.5:
            revision += 1
            room.said("node:1", dice.randrange(4), revision)
        assert room.free(number * 10.0) <= room.seats


def test_wish_that_is_not_said_again_in_time_is_over() -> None:
    room = wish(seats=1)
    room.said("node:1", seats=1, revision=2, over_at=15.0)
    assert room.free(14.9) == 1
    assert sent([room], searching("ann"), now=15.0) == []
    room.said("node:1", seats=1, revision=3, over_at=30.0)
    assert sent([room], searching("ann"), now=15.0) == [("room", "ann")]


def lane_of(*wishes: Wish) -> Lane:
    """A lane whose rooms want somebody."""
    quiet: Any = None
    config = queues.parse({"queue": "q", "game": "g"})
    lane = Lane(config, tickets=quiet, ratings=quiet, clock=SystemClock(), pace=Pace(1.0, 1.0))
    lane.wishes.update({wish.room_id: wish for wish in wishes})
    return lane


def test_dead_room_is_forgotten() -> None:
    dead, alive = wish("dead"), wish("alive")
    dead.said("node:1", seats=2, revision=2, over_at=SystemClock().now() - 1)
    lane = lane_of(dead, alive)
    assert backfill.chosen(lane) == []
    assert list(lane.wishes) == ["alive"]


def test_room_that_is_not_there_any_more_gets_nobody_more() -> None:
    lane = lane_of(wish())
    match = pb.MatchRecord(room_id="room", address="node:1", ticket_ids=["t-ann"])
    match.players.add(player_id="ann")
    backfill.refused(lane, match, errors.Unavailable("UNREACHABLE"))
    assert "room" in lane.wishes
    lane.wishes["room"].said("node:2", seats=1, revision=2)  # it has moved since
    backfill.refused(lane, match, errors.NotFound("ROOM_UNKNOWN"))
    assert "room" in lane.wishes
    match.address = "node:2"
    backfill.refused(lane, match, errors.NotFound("ROOM_UNKNOWN"))
    assert not lane.wishes
