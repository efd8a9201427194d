"""Skirmish: a real-time arena for 2 to 8 players, written with the column API.

**Tables** (after `seats`; rows of `players` are seats, q16 ranges in brackets)

| table | rows | columns |
|---|---|---|
| `players` | 8 | `x` [0, 1600] `y` [0, 900] q16; `aim` u16; `score` u16; `deaths` u16; `health` u8 (0 = dead or absent); `boost` u8 (1 = double damage) |
| `shots` | 24 | `x` `y` q16: where it was fired; `aim` u16; `born` u16: tick modulo 65,536 of firing; `live` u8. Row = 3 * seat + 0..2 |
| `items` | 6 | `x` `y` q16; `kind` u8: 0 absent, 1 health (+50), 2 boost (double damage for 5 s) |
| `match` | 1 | `ends` u32: the tick at which time is up |

**Input** at 20 Hz, idle policy repeat: `dx` `dy` i8 [-100, 100] percent of full speed; `aim` u16; `fire` u8.
An angle is `aim * 2π / 65536`, 0 = to the right, growing clockwise because y points down.

**Movement**, the same double-precision arithmetic on both sides, in this order, each tick for each
living player with the input applied last (constants below; STEP = SPEED / 20 = 13):

    dx = input.dx / 100; dy = input.dy / 100
    over = max(sqrt(dx * dx + dy * dy), 1)
    x = min(max(x + dx / over * STEP, RADIUS), WIDTH - RADIUS)      likewise y with HEIGHT
    for (ox, oy, r) of OBSTACLES:                  # at most one is met: they stand far enough apart
        reach = r + RADIUS; ex = x - ox; ey = y - oy; d2 = ex * ex + ey * ey
        if d2 < reach * reach:                     # d2 = 0 cannot be reached from outside
            f = reach / sqrt(d2); x = ox + ex * f; y = oy + ey * f

Players do not block each other. A shot flies straight: at tick t it is at
`x + cos(angle) * SHOT_STEP * (t - born)`, for at most SHOT_TICKS ticks; obstacles and walls stop it.
It meets others where they were as its shooter saw them when it was fired: as many ticks ago, at most
half a second's (`rewind`). Who has moved to another node is met where they are for that long.

**Events** (bytes): 1 HIT attacker, victim, damage · 2 KILL attacker, victim · 3 PICKUP seat, kind ·
4 SPAWN seat. **Options**: `time_limit_s` (120), `score_limit` (0 = none). No messages.
"""  # noqa: E501  # tables

from typing import ClassVar, Final

import numpy as np

from rallypoint.games import geometry
from rallypoint.games.chat import Chat
from rallypoint.games.columns import Input, Table, flag, hidden, i8, q16, u8, u16, u32
from rallypoint.games.game import ColumnGame, GameInfo, Refused
from rallypoint.games.geometry import put_rows
from rallypoint.games.room import Placement, Room, Rooms, SeatState
from rallypoint.games.schema import Array

WIDTH: Final = 1600.0
HEIGHT: Final = 900.0
RADIUS: Final = 18.0
STEP: Final = 13.0
"""Units a player moves in a tick: 260 per second at 20 Hz."""
OBSTACLES: Final = (
    (400.0, 250.0, 60.0), (1200.0, 250.0, 60.0), (800.0, 450.0, 90.0),
    (400.0, 650.0, 60.0), (1200.0, 650.0, 60.0),
)  # fmt: skip
SPAWNS: Final = (
    (120.0, 120.0), (1480.0, 780.0), (1480.0, 120.0), (120.0, 780.0),
    (800.0, 120.0), (800.0, 780.0), (120.0, 450.0), (1480.0, 450.0),
)  # fmt: skip
ITEM_SPOTS: Final = (
    (600.0, 450.0), (1000.0, 450.0), (800.0, 250.0),
    (800.0, 650.0), (250.0, 450.0), (1350.0, 450.0),
)  # fmt: skip
MAX_HEALTH: Final = 100
DAMAGE: Final = 25
SHOT_STEP: Final = 45.0
SHOT_TICKS: Final = 15
SHOTS_EACH: Final = 3
HIT_RADIUS: Final = RADIUS + 4.0
FIRE_TICKS: Final = 5
RESPAWN_TICKS: Final = 40
ITEM_RADIUS: Final = RADIUS + 14.0
ITEM_TICKS: Final = 200
BOOST_TICKS: Final = 100
HEALTH_ITEM: Final = 1
BOOST_ITEM: Final = 2
HIT: Final = 1
KILL: Final = 2
PICKUP: Final = 3
SPAWN: Final = 4

_FLOOR = geometry.Ground(
    (RADIUS, RADIUS), (WIDTH - RADIUS, HEIGHT - RADIUS), OBSTACLES, wider=RADIUS
)
_AIR = geometry.Ground((0.0, 0.0), (WIDTH, HEIGHT), OBSTACLES)
_ANGLES = np.arange(65536) * (2 * np.pi / 65536)
_STEP_X = np.cos(_ANGLES) * SHOT_STEP
_STEP_Y = np.sin(_ANGLES) * SHOT_STEP
_NEXT_SHOT = (np.arange(SHOTS_EACH, dtype=np.int32) + 1) % SHOTS_EACH
_DAMAGE = np.array([DAMAGE, 2 * DAMAGE], np.int32)
"""By `boost`."""
_COOLDOWN, _LEFT = np.array(FIRE_TICKS, np.int32), np.array(SHOT_TICKS, np.int32)
_LIVE = np.array(1, np.uint8)


class Players(Table):
    """One row per seat."""

    x = q16(0, WIDTH)
    y = q16(0, HEIGHT)
    aim = u16()
    score = u16()
    deaths = u16()
    health = u8()
    boost = u8()
    cooldown = hidden("i4")
    next_shot = hidden("i4")
    boost_left = hidden("i4")
    respawn_in = hidden("i4")


class Shots(Table, rows=8 * SHOTS_EACH):
    """Three rows per seat, used in turn; a shot is over before its row comes again."""

    x = q16(0, WIDTH)
    y = q16(0, HEIGHT)
    aim = u16()
    born = u16()
    live = u8()
    left = hidden("i4")
    now_x = hidden()
    now_y = hidden()
    step_x = hidden()
    step_y = hidden()
    damage = hidden("i4")
    delay = hidden("f8")


class Items(Table, rows=len(ITEM_SPOTS)):
    """Things to pick up."""

    x = q16(0, WIDTH)
    y = q16(0, HEIGHT)
    kind = u8()
    home_kind = hidden("u1")
    back_in = hidden("i4")


class Match(Table, rows=1):
    """The clock."""

    ends = u32()
    score_limit = hidden("i4")


class Move(Input, idle="repeat"):
    """What a player wants."""

    dx = i8(-100, 100)
    dy = i8(-100, 100)
    aim = u16()
    fire = flag()


class Skirmish(ColumnGame):
    """The arena."""

    info = GameInfo(
        name="skirmish",
        title="Skirmish",
        min_players=2,
        max_players=8,
        tick_hz=20,
        late_join=True,
    )
    tables = (Players, Shots, Items, Match)
    input = Move
    plugins = (Chat(),)
    rewinds: ClassVar = {Players: ("x", "y")}

    def on_create(self, room: Room) -> None:
        """Set the clock and lay out the items."""
        limit_s = float(room.options.get("time_limit_s", 120))
        if not 1 <= limit_s <= 3600:
            raise Refused("OPTIONS_INVALID", "time_limit_s must be 1 to 3600")
        match, items = room.table(Match), room.table(Items)
        match.ends = room.tick + round(limit_s / room.dt_s)
        match.score_limit = int(room.options.get("score_limit", 0))
        items.x = [x for x, _ in ITEM_SPOTS]
        items.y = [y for _, y in ITEM_SPOTS]
        items.home_kind = room.dice.shuffled([HEALTH_ITEM, BOOST_ITEM] * (len(ITEM_SPOTS) // 2))
        items.kind = items.home_kind

    def on_join(self, room: Room, seat: int) -> None:
        """Enter the arena."""
        players = room.table(Players)
        _spawn(players.at(slice(seat, seat + 1)), seat)
        room.emit(SPAWN, bytes((seat,)))

    def on_leave(self, room: Room, seat: int, reason: str) -> None:
        """Leave the arena; the last one standing has won."""
        players = room.table(Players)
        players.health[seat] = 0
        players.respawn_in[seat] = 0
        states = room.seat_states
        there = [other.slot for other in room.seats if states[other.slot] != SeatState.LEFT]
        if len(there) < 2 <= len(room.seats):
            room.finish(_placements(room, players.score, states))

    def on_tick(self, rooms: Rooms) -> None:
        """Move, shoot, hit, pick up, come back, end."""
        players, shots, move = rooms.table(Players), rooms.table(Shots), rooms.input(Move)
        alive = players.health > 0
        _move(players, move, alive)
        _fire(rooms, players, shots, move.fire & alive)
        _fly(rooms, players, shots)
        _pick_up(rooms, players, rooms.table(Items))
        _come_back(rooms, players)
        _end(rooms, players, rooms.table(Match))


def _move(players: Players, move: Move, alive: Array) -> None:
    place, way = (players.x, players.y), (move.dx, move.dy)
    _FLOOR.walk(place, way, alive, full=100.0, step=STEP)
    np.copyto(players.aim, move.aim, where=alive)


def _fire(rooms: Rooms, players: Players, shots: Shots, wanting: Array) -> None:
    cooldown = players.cooldown
    np.maximum(cooldown - 1, 0, out=cooldown)
    wanting &= cooldown == 0
    # Rows of `shots` are three per seat, so the place of a seat among all seats, times three, is
    # that of its first shot among all shots; one index for both is faster than pairs.
    (who,) = wanting.reshape(-1).nonzero()
    if not len(who):
        return
    player, shot = players.flat, shots.flat
    number, aim, x, y = player.next_shot[who], player.aim[who], player.x[who], player.y[who]
    room, seat = np.divmod(who, players.x.shape[1])
    put_rows(who, (player.next_shot, _NEXT_SHOT[number]), (player.cooldown, _COOLDOWN))
    put_rows(
        who * SHOTS_EACH + number,
        (shot.x, x), (shot.now_x, x), (shot.step_x, _STEP_X[aim]),
        (shot.y, y), (shot.now_y, y), (shot.step_y, _STEP_Y[aim]),
        (shot.aim, aim), (shot.born, rooms.tick.astype(np.uint16)[room]), (shot.left, _LEFT),
        (shot.delay, rooms.rewind(Players).delay(room, seat)),
        (shot.damage, _DAMAGE[player.boost[who]]), (shot.live, _LIVE),
    )  # fmt: skip


def _fly(rooms: Rooms, players: Players, shots: Shots) -> None:
    """Move shots fired in earlier ticks; the first player met on the way is hit."""
    flying = shots.live != 0
    flying &= shots.born != (rooms.tick & 0xFFFF)[:, None]
    late = flying & (shots.delay > 0)
    struck: list[tuple[int, int, int]] = []
    if np.count_nonzero(late):
        struck += _met_before(rooms, players, shots, late)
        flying &= ~late
        late &= shots.live != 0
        _step(shots, late, geometry.Targets(players.x, players.y, np.zeros_like(players.health)))
    struck += _step(shots, flying, geometry.Targets(players.x, players.y, players.health))
    for room, row, victim in struck:
        who = room, row // SHOTS_EACH, victim
        _hit(rooms, players, who, int(shots.damage[room, row]))


def _step(shots: Shots, flying: Array, targets: geometry.Targets) -> list[tuple[int, int, int]]:
    flight = geometry.Flight(
        shots.now_x, shots.now_y, shots.step_x, shots.step_y, shots.left, shots.live
    )
    return _AIR.fly(flight, flying, targets, each=SHOTS_EACH, radius=HIT_RADIUS, length=SHOT_STEP)


def _met_before(
    rooms: Rooms, players: Players, shots: Shots, late: Array
) -> list[tuple[int, int, int]]:
    """The shots of those who saw others where they were, and whom they met there."""
    room, row = late.nonzero()
    x, y = rooms.rewind(Players).at(room, shots.delay[late])
    steps = geometry.Steps(
        np.arange(len(room)),
        row // SHOTS_EACH,
        shots.now_x[late],
        shots.now_y[late],
        shots.step_x[late],
        shots.step_y[late],
        SHOT_STEP,
    )
    met = steps.first_met(x, y, players.health[room], radius=HIT_RADIUS)
    (struck,) = (met >= 0).nonzero()
    shots.live[room[struck], row[struck]] = 0
    return list(zip(room[struck].tolist(), row[struck].tolist(), met[struck].tolist(), strict=True))


def _hit(rooms: Rooms, players: Players, who: tuple[int, int, int], damage: int) -> None:
    room, attacker, victim = who
    health = int(players.health[room, victim])
    if health == 0:  # another shot of this tick was faster
        return
    players.health[room, victim] = max(0, health - damage)
    rooms.emit(room, HIT, bytes((attacker, victim, damage)))
    if damage >= health:
        players.score[room, attacker] += 1
        players.deaths[room, victim] += 1
        players.respawn_in[room, victim] = RESPAWN_TICKS
        players.boost[room, victim] = players.boost_left[room, victim] = 0
        rooms.emit(room, KILL, bytes((attacker, victim)))


def _pick_up(rooms: Rooms, players: Players, items: Items) -> None:
    _tick_items(players, items)
    met = geometry.touching((players.x, players.y), (items.x, items.y), radius=ITEM_RADIUS)
    for room, seat, row in met:
        kind = int(items.kind[room, row])
        health = int(players.health[room, seat])
        if kind == 0 or health == 0 or (kind == HEALTH_ITEM and health == MAX_HEALTH):
            continue
        if kind == HEALTH_ITEM:
            players.health[room, seat] = min(MAX_HEALTH, health + 50)
        else:
            players.boost[room, seat], players.boost_left[room, seat] = 1, BOOST_TICKS
        items.kind[room, row], items.back_in[room, row] = 0, ITEM_TICKS
        rooms.emit(room, PICKUP, bytes((seat, kind)))


def _tick_items(players: Players, items: Items) -> None:
    """Items come back, boosts run out."""
    waiting = items.back_in > 0
    if np.count_nonzero(waiting):
        items.back_in -= waiting
        np.copyto(items.kind, items.home_kind, where=waiting & (items.back_in == 0))
    boosted = players.boost_left > 0
    if np.count_nonzero(boosted):
        players.boost_left -= boosted
        players.boost = players.boost_left > 0


def _come_back(rooms: Rooms, players: Players) -> None:
    waiting = players.respawn_in > 0
    if not np.count_nonzero(waiting):
        return
    players.respawn_in -= waiting
    back = waiting & (players.respawn_in == 0)
    for at in back.reshape(-1).nonzero()[0].tolist():
        room, seat = divmod(at, back.shape[1])
        rooms.rewind(Players).forget(np.array([room]), np.array([seat]))
        _spawn(players.at((slice(room, room + 1), seat)), seat)
        rooms.emit(room, SPAWN, bytes((seat,)))


def _spawn(player: Players, seat: int) -> None:
    """Put one player, a view of one row, at the next of its places."""
    x, y = SPAWNS[(seat + 3 * int(player.deaths[0])) % len(SPAWNS)]
    player.x = x
    player.y = y
    player.health = MAX_HEALTH
    player.cooldown = 0


def _end(rooms: Rooms, players: Players, match: Match) -> None:
    over = rooms.live & (match.ends[:, 0] <= rooms.tick)
    limits = match.score_limit[:, 0]
    if np.count_nonzero(limits):
        over |= rooms.live & (limits > 0) & (players.score.max(axis=1) >= limits)
    for room in over.nonzero()[0].tolist():
        placements = _placements(rooms.room(room), players.score[room], rooms.states[room])
        rooms.finish(room, placements)


def _placements(room: Room, scores: Array, states: Array) -> list[Placement]:
    """By score; who left early comes after everybody who stayed."""
    keys = {
        seat.slot: (states[seat.slot] != SeatState.LEFT, int(scores[seat.slot]))
        for seat in room.seats
    }
    ordered = sorted(keys.values(), reverse=True)
    return [
        Placement(slot, ordered.index(key) + 1, float(scores[slot])) for slot, key in keys.items()
    ]
