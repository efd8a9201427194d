"""Cells: who sees what is as a plain model says, and what a client holds is what was there."""

from collections.abc import Sequence
from math import floor, hypot
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games import codec
from rallypoint.games.columns import Cells, Table, f32, flag, q16, u8, u32
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.harness import RoomHarness, fields
from rallypoint.games.room import Seat
from rallypoint.games.views import Watch

SEATS = 4
ROCKS = 6
LOW, HIGH = (0.0, -100.0), (350.0, 250.0)


class Ships(Table, cells=Cells(radius=100, x="x", y="y", alive="alive")):
    x = q16(0, 350)
    code = u32()
    y = q16(-100, 250)
    alive = flag()
    hp = u8()


class Rocks(Table, rows=ROCKS, cells=Cells(radius=40, x="x", y="y")):
    x = f32(0, 350)
    y = f32(-100, 250)
    code = u32()


class Sky(ColumnGame):
    info = GameInfo(name="sky", max_players=SEATS, max_kbps=0)
    tables = (Ships, Rocks)


class Thrifty(ColumnGame):
    info = GameInfo(name="thrifty", max_players=SEATS, max_kbps=14)  # 87 bytes a frame
    tables = (Ships, Rocks)


SKY, THRIFTY = define(Sky), define(Thrifty)
KINDS: tuple[tuple[type[Table], int], ...] = ((Ships, SEATS), (Rocks, ROCKS))
PLACES = st.floats(-120, 400, width=32) | st.sampled_from([0.0, 40.0, 100.0, 200.0, 350.0, np.nan])
SECRETS = st.integers(0xA7E59000, 0xA7E59FFF)
CHANGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), PLACES, PLACES, st.booleans(), SECRETS), max_size=8
)
ROUNDS = st.lists(
    st.tuples(CHANGES, st.sets(st.integers(0, SEATS - 1)), st.sets(st.integers(0, SEATS - 1))),
    min_size=1,
    max_size=12,
)


class Client:
    """What a seat was sent, and which cells it is to see, by a plain model."""

    def __init__(self, definition: Definition, seat: int) -> None:
        self.seat = seat
        self.decoder = codec.Decoder(definition.schema)
        self.bytes = b""
        self.fresh = True
        self.sight: dict[type[Table], set[tuple[int, int]]] = {table: set() for table, _ in KINDS}

    def take(self, shared: Sequence[bytes], parts: Sequence[bytes]) -> None:
        frame = shared[self.fresh] + b"".join(parts)
        self.bytes += frame
        if self.fresh:
            self.decoder.clear()
        self.fresh = False
        for number, data in fields(frame):
            if number == 4:
                section = dict(fields(data))
                self.decoder.apply(section[1], section[3])

    def look(self, x: float, y: float) -> None:
        for table, _ in KINDS:
            size = radius(table)
            if self.fresh:
                self.sight[table] = set()
            count = int(np.ceil(350 / size))
            for cx in range(count):
                for cy in range(count):
                    far = distance((x, y), (cx, cy), size)
                    if far <= size:
                        self.sight[table].add((cx, cy))
                    elif far > size * 1.15:
                        self.sight[table].discard((cx, cy))


def radius(table: type[Table]) -> float:
    assert table.cells is not None
    return table.cells.radius


def inside(value: float, axis: int) -> float:
    return LOW[axis] if np.isnan(value) else min(max(float(value), LOW[axis]), HIGH[axis])


def distance(place: tuple[float, float], cell: tuple[int, int], size: float) -> float:
    apart = []
    for axis in (0, 1):
        low = LOW[axis] + cell[axis] * size
        at = inside(place[axis], axis)
        apart.append(max(low - at, at - (low + size), 0.0))
    return hypot(*apart)


def cell_of(table: type[Table], x: float, y: float) -> tuple[int, int]:
    size = radius(table)
    last = int(np.ceil(350 / size)) - 1
    cx, cy = (floor((inside(v, axis) - LOW[axis]) / size) for axis, v in enumerate((x, y)))
    return min(cx, last), min(cy, last)


def rows_of(room: Any, definition: Definition) -> dict[type[Table], dict[int, Any]]:
    """Rows that are anywhere: their cell, and their wire numbers."""
    found: dict[type[Table], dict[int, Any]] = {}
    for table, rows in KINDS:
        spec = next(s for s in definition.schema.tables if s.name == table.wire_name)
        bound = room.table(table)
        numbers = [
            codec.quantize(column, bound.arrays[column.name]).tobytes() for column in spec.columns
        ]
        found[table] = {
            row: (
                cell_of(table, bound.x[row], bound.y[row]),
                tuple(
                    data[row * c.kind.width : (row + 1) * c.kind.width]
                    for c, data in zip(spec.columns, numbers, strict=True)
                ),
            )
            for row in range(rows)
            if table is Rocks or bound.alive[row]
        }
    return found


def shown(client: Client, table: type[Table], row: int) -> tuple[bytes, ...]:
    columns = client.decoder.tables[table.wire_name]
    return tuple(numbers[row : row + 1].tobytes() for numbers in columns.values())


class World:
    """A room with other rooms around it, changed and published round by round."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.table = RoomTable(definition, capacity=3)
        seats = [Seat(slot, f"p{slot}", "P", slot) for slot in range(SEATS)]
        self.other = self.table.open(RoomSpec(id="other", seats=seats))
        self.slot = self.table.open(RoomSpec(id="room", seats=seats))
        self.room = self.table.room(self.slot)
        self.clients = {seat: Client(definition, seat) for seat in range(SEATS)}

    def change(self, changes: list[Any]) -> None:
        for is_ship, row, x, y, alive, code in changes:
            if is_ship:
                ships, at = self.room.table(Ships), row % SEATS
                ships.x[at], ships.y[at], ships.code[at], ships.alive[at] = x, y, code, alive
            else:
                rocks = self.room.table(Rocks)
                rocks.x[row], rocks.y[row], rocks.code[row] = x, y, code

    def publish(self, away: set[int], lost: set[int]) -> dict[type[Table], dict[int, Any]]:
        """Seats that are away get nothing and start anew; those that lost a frame, too."""
        self.table.step()
        writer = self.table.writer
        shared = [self.table.deltas()[self.slot], writer.keyframes([self.slot])[0]]
        here = {seat: client for seat, client in self.clients.items() if seat not in away}
        for seat, client in self.clients.items():
            client.fresh |= seat in away | lost
        fresh = frozenset(seat for seat, client in here.items() if client.fresh)
        watches = [
            Watch(self.slot, tuple(here), fresh),
            Watch(self.other, (1,), frozenset([1])),
        ]
        view = writer.views(watches)[0]
        ships = self.room.table(Ships)
        for seat, client in here.items():
            client.look(ships.x[seat], ships.y[seat])
            client.take(shared, [view.parts[at] for at in view.of[seat]])
        return rows_of(self.room, self.definition)


@settings(max_examples=40)
@given(rounds=ROUNDS)
def test_clients_hold_exactly_what_they_may_see(rounds: list[Any]) -> None:
    world = World(SKY)
    zero = {table: shown(Client(SKY, 0), table, 0) for table, _ in KINDS}
    secrets: set[int] = set()
    told: dict[int, set[int]] = {seat: set() for seat in range(SEATS)}
    for changes, away, lost in rounds:
        world.change(changes)
        secrets |= {change[-1] for change in changes}
        rows = world.publish(away, lost)
        for seat in set(range(SEATS)) - away:
            client = world.clients[seat]
            for table, count in KINDS:
                for row in range(count):
                    cell, numbers = rows[table].get(row, (None, ()))
                    visible = cell in client.sight[table]
                    assert shown(client, table, row) == (numbers if visible else zero[table])
                    if visible:
                        told[seat].add(int(world.room.table(table).code[row]))
    for seat, client in world.clients.items():
        for secret in secrets - told[seat]:
            assert secret.to_bytes(4, "little") not in client.bytes


@settings(max_examples=40)
@given(rounds=ROUNDS)
def test_rows_near_are_seen_and_rows_far_are_not(rounds: list[Any]) -> None:
    world = World(SKY)
    for changes, away, lost in rounds:
        world.change(changes)
        rows = world.publish(away, lost)
        ships = world.room.table(Ships)
        for seat in set(range(SEATS)) - away:
            here = inside(ships.x[seat], 0), inside(ships.y[seat], 1)
            for table, _ in KINDS:
                bound, size = world.room.table(table), radius(table)
                for row in rows[table]:
                    there = inside(bound.x[row], 0), inside(bound.y[row], 1)
                    far = hypot(here[0] - there[0], here[1] - there[1])
                    client = world.clients[seat]
                    cells = client.decoder.cells[1 if table is Ships else 2]
                    held = row in cells.rows
                    assert held or far > size * (1 - 1e-9)
                    assert not held or far <= (1.15 + 2**0.5) * size * (1 + 1e-9)


@settings(max_examples=20)
@given(rounds=ROUNDS)
def test_short_budget_is_late_and_never_wrong(rounds: list[Any]) -> None:
    world = World(THRIFTY)
    zero = {table: shown(Client(THRIFTY, 0), table, 0) for table, _ in KINDS}
    was: set[Any] = set()
    for changes, away, lost in rounds:
        world.change(changes)
        rows = world.publish(away, lost)
        was |= {(table, row, *rows[table][row]) for table, _ in KINDS for row in rows[table]}
        for seat in set(range(SEATS)) - away:
            client = world.clients[seat]
            for table, count in KINDS:
                for row in range(count):
                    numbers = shown(client, table, row)
                    once = {cell for t, r, cell, n in was if (t, r, n) == (table, row, numbers)}
                    assert numbers == zero[table] or once & client.sight[table]
    for _ in range(15):
        rows = world.publish(set(), set())
    for client in world.clients.values():
        for table, count in KINDS:
            for row in range(count):
                cell, numbers = rows[table].get(row, (None, ()))
                seen = cell in client.sight[table]
                assert shown(client, table, row) == (numbers if seen else zero[table])


def test_section_of_a_cell_is_the_same_bytes_for_all() -> None:
    world = World(SKY)
    world.change([(True, seat, 50 + seat, 0, True, 7) for seat in range(SEATS)])
    world.publish(set(), set())
    world.room.table(Ships).hp[:] = 9
    world.table.step()
    world.table.deltas()
    watch = Watch(world.slot, range(SEATS), frozenset())
    view = world.table.writer.views([watch])[0]
    assert len(view.parts) == 1
    assert all(view.of[seat] == [0] for seat in range(SEATS))


def test_budget_holds_and_near_cells_go_first() -> None:
    class Crowded(ColumnGame):
        info = GameInfo(name="crowded", max_players=60, max_kbps=32)
        tables = (Ships,)

        def on_tick(self, rooms: Any) -> None:
            rooms.table(Ships).code += 1

    table = RoomTable(define(Crowded), capacity=1)
    slot = table.open(RoomSpec(id="r", seats=[Seat(s, f"p{s}", "P", s) for s in range(60)]))
    ships = table.room(slot).table(Ships)
    ships.alive[:] = True
    ships.x[:], ships.y[:] = np.arange(60) % 10 * 33, np.arange(60) // 10 * 50 - 50
    ships.x[0], ships.y[0] = 150.0, 50.0
    client, sizes, ages = Client(define(Crowded), 0), [], []
    for _ in range(200):
        table.step()
        table.deltas()
        view = table.writer.views([Watch(slot, [0], frozenset([0] if client.fresh else []))])[0]
        parts = [view.parts[at] for at in view.of[0]]
        sizes.append(sum(map(len, parts)))
        client.take([b"", b""], parts)
        code = client.decoder.tables["ships"]["code"]
        ages.append(int(ships.code[0]) - int(code[0]))
    assert sum(sizes[20:]) / len(sizes[20:]) < 32_000 / 8 / 20 * 1.1
    assert max(ages) <= 2, "the own cell is hardly ever late"
    seen = client.decoder.tables["ships"]["alive"] != 0
    assert seen.sum() > 30
    late = (int(ships.code[0]) - client.decoder.tables["ships"]["code"].astype(int))[seen]
    assert late.max() < 40, "and the others are late, not lost"


def test_harness_shows_what_a_seat_sees() -> None:
    room = RoomHarness(Sky, players=3)
    ships = room.table(Ships)
    ships.alive[:3] = True
    ships.x[:3], ships.code[:3] = [10, 20, 340], [1, 2, 3]
    room.step()
    assert room.seen("ships", seat=0)["code"].tolist() == [1, 2, 0, 0]
    assert room.seen("ships", seat=2)["code"].tolist() == [0, 0, 3, 0]
    ships.x[0] = 340
    room.step()
    assert room.seen("ships", seat=0)["code"].tolist() == [1, 0, 3, 0]
    room.reload()
    assert room.seen("ships", seat=2)["code"].tolist() == [1, 0, 3, 0]


def test_declarations_that_make_no_sense_are_refused() -> None:
    class Free(Table, rows=2, cells=Cells(radius=10, x="x", y="y")):
        x = q16(0, 10)
        y = q16(0, 10)

    class Nobody(ColumnGame):
        info = GameInfo(name="nobody", max_players=2)
        tables = (Free,)

    with pytest.raises(ValueError, match="one row per seat"):
        define(Nobody)
    with pytest.raises(ValueError, match="no column z"):
        type("Odd", (Table,), {"x": q16(0, 1)}, cells=Cells(radius=1, x="x", y="z"))

    class Endless(Table, cells=Cells(radius=10, x="x", y="y")):
        x = f32()
        y = f32()

    class Boundless(ColumnGame):
        info = GameInfo(name="boundless", max_players=2)
        tables = (Endless,)

    with pytest.raises(ValueError, match="bounds"):
        define(Boundless)
