"""Skirmish, played through the harness."""

import math

import pytest

from rallypoint.games import skirmish
from rallypoint.games.game import Refused
from rallypoint.games.harness import RoomHarness
from rallypoint.games.room import SeatState
from rallypoint.games.skirmish import HIT, KILL, PICKUP, SPAWN, Items, Match, Players, Skirmish


def arena(players: int = 2, **options: float) -> RoomHarness:
    return RoomHarness(Skirmish, players=players, options=options)


def put(room: RoomHarness, seat: int, x: float, y: float) -> None:
    players = room.table(Players)
    players.x[seat], players.y[seat] = x, y


def aim_at(degrees: float) -> int:
    return round(degrees / 360 * 65536) % 65536


def step_as_documented(x: float, y: float, dx: int, dy: int) -> tuple[float, float]:
    """The arithmetic of the module's docstring, as the browser has it."""
    fx, fy = dx / 100, dy / 100
    over = max(math.sqrt(fx * fx + fy * fy), 1.0)
    x = min(max(x + fx / over * 13.0, 18.0), 1600.0 - 18.0)
    y = min(max(y + fy / over * 13.0, 18.0), 900.0 - 18.0)
    for ox, oy, r in skirmish.OBSTACLES:
        reach, ex, ey = r + 18.0, x - ox, y - oy
        d2 = ex * ex + ey * ey
        if d2 < reach * reach:
            factor = reach / math.sqrt(d2)
            x, y = ox + ex * factor, oy + ey * factor
    return x, y


@pytest.mark.parametrize(
    ("dx", "dy"), [(100, 0), (-100, 0), (70, 70), (100, 100), (3, -7), (100, 40), (-100, 55)]
)
def test_movement_is_exactly_as_documented(dx: int, dy: int) -> None:
    room = arena()
    for start in [(800.0, 120.0), (300.0, 250.0), (650.0, 430.0), (20.0, 20.0)]:
        put(room, 0, *start)
        x, y = start
        for _ in range(60):
            room.send(0, dx=dx, dy=dy)
            room.step()
            x, y = step_as_documented(x, y, dx, dy)
            assert (room.table(Players).x[0], room.table(Players).y[0]) == (x, y)


def test_three_hits_and_a_kill_then_a_respawn() -> None:
    room = arena()
    put(room, 0, 200, 800)
    put(room, 1, 500, 800)
    for _ in range(40):
        room.send(0, aim=aim_at(0), fire=1)
        room.step()
        if room.table(Players).score[0]:
            break
    kinds = [event.kind for event in room.events]
    assert kinds.count(HIT) == 4
    assert kinds.count(KILL) == 1
    assert (room.seen("players")["score"][0], room.seen("players")["deaths"][1]) == (1, 1)
    assert room.seen("players")["health"][1] == 0
    room.send(0)
    room.run(2.5)
    assert room.seen("players")["health"][1] == skirmish.MAX_HEALTH
    assert [event.kind for event in room.events].count(SPAWN) == 3


@pytest.mark.parametrize(
    ("behind", "hits"), [(0, 0), (6, 1), (60, 1)], ids=["no", "some", "bounded"]
)
def test_shot_meets_who_was_there_on_the_shooters_screen(behind: float, hits: int) -> None:
    room = arena()
    if behind:
        room.look_back(0, behind)
    put(room, 0, 200, 400)
    put(room, 1, 330, 452 - 13 * 12 + (13 * 4 if behind > 6 else 0))
    for tick in range(18):
        room.send(0, aim=aim_at(0), fire=int(tick == 11))
        room.send(1, dy=100)
        room.step()
    assert [event.kind for event in room.events].count(HIT) == hits


def test_who_has_come_back_was_not_seen_on_the_way() -> None:
    room = arena()
    room.look_back(0, 8)
    put(room, 0, 200, 800)
    put(room, 1, 500, 800)
    players = room.table(Players)
    for _ in range(60):
        room.send(0, aim=aim_at(0), fire=1)
        room.step()
        if players.respawn_in[1] == 1:
            break
    before = [event.kind for event in room.events].count(HIT)
    for _ in range(12):
        room.send(0, aim=aim_at(0), fire=1)
        room.step()
    assert players.score[0] == 1
    assert [event.kind for event in room.events].count(HIT) == before


def test_obstacle_stops_a_shot() -> None:
    room = arena()
    put(room, 0, 650, 450)
    put(room, 1, 950, 450)
    room.send(0, aim=aim_at(0), fire=1)
    room.run(1.5)
    assert HIT not in [event.kind for event in room.events]


def test_shots_of_different_seats_do_not_hit_their_owner() -> None:
    room = arena()
    put(room, 0, 200, 800)
    put(room, 1, 1500, 100)
    room.send(0, aim=aim_at(0), fire=1)
    room.run(1.0)
    assert not [event for event in room.events if event.kind == HIT]


def test_health_is_picked_up_and_comes_back() -> None:
    room = arena()
    items, players = room.table(Items), room.table(Players)
    row = items.kind.tolist().index(skirmish.HEALTH_ITEM)
    players.health[0] = 40
    put(room, 0, float(items.x[row]), float(items.y[row]))
    room.step()
    assert players.health[0] == 90
    assert (PICKUP, bytes((0, skirmish.HEALTH_ITEM))) in [(e.kind, e.body) for e in room.events]
    put(room, 0, 60, 60)
    room.run(10.1)
    assert room.seen("items")["kind"][row] == skirmish.HEALTH_ITEM


def test_boost_doubles_damage_for_a_while() -> None:
    room = arena()
    items = room.table(Items)
    row = items.kind.tolist().index(skirmish.BOOST_ITEM)
    put(room, 0, float(items.x[row]), float(items.y[row]))
    room.step()
    assert room.seen("players")["boost"][0] == 1
    put(room, 0, 200, 800)
    put(room, 1, 300, 800)
    room.send(0, aim=aim_at(0), fire=1)
    room.run(0.3)
    assert room.table(Players).health[1] == skirmish.MAX_HEALTH - 2 * skirmish.DAMAGE
    room.send(0)
    room.run(5.0)
    assert room.seen("players")["boost"][0] == 0


def test_time_limit_ends_with_a_ranking() -> None:
    room = arena(3, time_limit_s=1)
    room.table(Players).score[2] = 4
    assert room.table(Match).ends[0] == 20
    room.run(1.0)
    assert room.outcome is not None
    ranks = {place.slot: (place.rank, place.score) for place in room.outcome.placements}
    assert ranks == {2: (1, 4.0), 0: (2, 0.0), 1: (2, 0.0)}
    assert room.outcome.rated


def test_score_limit_ends_the_match() -> None:
    room = arena(score_limit=3)
    room.table(Players).score[1] = 3
    room.step()
    assert room.outcome is not None


def test_last_one_standing_wins() -> None:
    room = arena(3)
    room.table(Players).score[1] = 9
    room.leave(1)
    assert room.outcome is None
    room.leave(2)
    assert room.outcome is not None
    ranks = {place.slot: place.rank for place in room.outcome.placements}
    assert ranks == {0: 1, 1: 2, 2: 3}


def test_dropped_player_stands_still_and_comes_back() -> None:
    room = arena()
    room.send(0, dx=100)
    room.step()
    room.drop(0)
    room.step()
    x = room.table(Players).x[0]
    room.run(0.5)
    assert room.table(Players).x[0] == x
    assert room.seen("seats")["state"][0] == SeatState.DROPPED
    room.join(0)
    room.step()
    assert room.seen("players")["health"][0] == skirmish.MAX_HEALTH


@pytest.mark.parametrize("limit", [0, -1, 1e9])
def test_senseless_time_limit_is_refused(limit: float) -> None:
    with pytest.raises(Refused, match="OPTIONS_INVALID"):
        arena(time_limit_s=limit)


def test_obstacles_stand_apart() -> None:
    """The movement rule pushes a player out of one obstacle, never into another or a wall."""
    for index, (x, y, r) in enumerate(skirmish.OBSTACLES):
        reach = r + skirmish.RADIUS
        assert reach < x < skirmish.WIDTH - reach
        assert reach < y < skirmish.HEIGHT - reach
        for ox, oy, other in skirmish.OBSTACLES[index + 1 :]:
            assert math.hypot(x - ox, y - oy) > reach + other + skirmish.RADIUS
