"""Drift, played through the harness."""

from rallypoint.games.drift import SIZE, SPEED, Drift, Players
from rallypoint.games.harness import RoomHarness


def test_players_go_where_they_want_and_are_acknowledged() -> None:
    room = RoomHarness(Drift, players=2)
    players = room.table(Players)
    players.x[0], players.y[0] = 500, 500
    room.send(0, vx=100.0, vy=-40.0)
    room.run(seconds=1.0)
    seen = room.seen("players")
    assert abs(seen["x"][0] - 600) < 0.01
    assert abs(seen["y"][0] - 460) < 0.01
    assert room.seen("seats")["ack"][0] == 1


def test_walls_turn_round_and_hold() -> None:
    room = RoomHarness(Drift, players=1)
    players = room.table(Players)
    players.x[0] = SIZE - 5
    room.send(0, vx=10 * SPEED, vy=0.0)
    room.step()
    assert (players.x[0], players.vx[0]) == (SIZE, -SPEED)
    room.run(seconds=20.0)
    assert 0 <= players.x[0] <= SIZE


def test_room_ends_when_everybody_has_left() -> None:
    room = RoomHarness(Drift, players=2)
    room.leave(0)
    room.step()
    assert room.outcome is None
    room.leave(1)
    room.step()
    assert room.outcome is not None
    assert not room.outcome.rated
