"""What is seen from nearby is recorded whole, as SHARED tables, unless the game keeps it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.room_state.test_recording import CARDS, CREATED, Shelf

from rallypoint.client.replay import Playback, Step
from rallypoint.games import codec, overview
from rallypoint.games.columns import Cells, Table, flag, q8, q16, u8
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo, RoomGame
from rallypoint.games.room import Seat
from rallypoint.games.schema import Array, Visibility
from rallypoint.games.swarm import Swarm
from rallypoint.room_state import recording
from rallypoint.room_state.recording import Recording, Tape

NEAR = Cells(radius=100, alive="alive")
SEATS = [Seat(0, "alice", "A"), Seat(1, "bob", "B")]
SECRET = 0x5E


class Walker(Table, cells=NEAR):
    x = q16(100, 1000)
    y = q16(100, 1000)
    speed = q8(-5, 5)
    alive = flag()


class Rock(Table, rows=11, cells=Cells(radius=100)):
    x = q16(0, 1000)
    y = q16(0, 1000)
    kind = u8()


class Mine(Table, rows=2, cells=Cells(radius=100, recorded=False)):
    x = q16(0, 1000)
    y = q16(0, 1000)
    trap = u8()


class Woods(RoomGame):
    info = GameInfo(name="woods", max_players=2, tick_hz=10)
    tables = (Walker, Rock, Mine)

    def on_create(self) -> None:
        self.room.table(Mine).trap[:] = SECRET


WOODS = define(Woods)
numbers = st.integers(0, 10)
changes = st.lists(st.tuples(st.integers(0, 12), numbers, numbers, st.booleans()), max_size=4)


def shown(table: type[Table], columns: Mapping[str, Array]) -> dict[str, list[float]]:
    """The wire numbers of a table that has these columns: zeros where a row is nowhere."""
    alive = columns["alive"] if "alive" in columns else np.ones(len(columns["x"]))
    return {
        column.name: (codec.quantize(column.spec(), columns[column.name]) * (alive != 0)).tolist()
        for column in table.sent()
    }


class Film:
    """A room of the woods beside one that nobody records."""

    def __init__(self, definition: Definition = WOODS) -> None:
        self.shelf = Shelf()
        self.table = RoomTable(definition, capacity=2)
        self.table.open(RoomSpec(id="other", seats=SEATS, epoch=1))
        self.slot = self.table.open(RoomSpec(id="r", seats=SEATS, epoch=1))
        self.seen: dict[int, list[dict[str, list[float]]]] = {}
        self.tape = Tape(
            definition, Recording(1 << 30), self.shelf, room_id="r", epoch=1, queue="q",
            created_s=990, start=CREATED, seats=lambda: SEATS, phase=3,
        )  # fmt: skip

    def play(self, happened: list[tuple[int, int, int, bool]]) -> None:
        """Change rows of both tables, and note what all of them are."""
        room = self.table.room(self.slot)
        for row, x, y, alive in happened:
            walker, rock = room.table(Walker), room.table(Rock)
            if row < 2:
                walker.x[row], walker.y[row], walker.alive[row] = 100 + 9 * x, 100 + 9 * y, alive
            else:
                rock.x[row - 2], rock.y[row - 2], rock.kind[row - 2] = 100 * x, 100 * y, y
        self.table.step()
        recording.roll({self.slot: self.tape}, self.table, self.table.deltas())
        self.seen[self.table.tick_of(self.slot)] = [
            shown(table, room.table(table).arrays) for table in (Walker, Rock)
        ]


@given(st.lists(changes, min_size=1, max_size=70), st.data())
def test_all_rows_are_seen_from_any_chunk_on(
    ticks: list[list[tuple[int, int, int, bool]]], data: st.DataObject
) -> None:
    film = Film()
    for happened in ticks:
        film.play(happened)
    film.tape.cut()
    playback = Playback()
    for chunk in film.shelf.chunks():
        if not data.draw(st.booleans()):
            continue
        for moment in playback.take(chunk):
            if isinstance(moment, Step):
                tables = [playback.tables[name] for name in ("walker", "rock")]
                found = [
                    {name: column.tolist() for name, column in table.items()} for table in tables
                ]
                assert found == film.seen[moment.tick]


def test_what_a_game_keeps_is_not_recorded() -> None:
    film = Film()
    for _ in range(50):
        film.play([])
    film.tape.cut()
    chunks = film.shelf.chunks()
    assert chunks[0].head.cells
    seen = {table.name: table.visibility for table in chunks[0].head.schema.tables}
    assert seen["walker"] == seen["rock"] == int(Visibility.SHARED)
    assert seen["mine"] == int(Visibility.CELL)
    mine = next(table.id for table in chunks[0].head.schema.tables if table.name == "mine")
    frames = [entry.frame for chunk in chunks for entry in chunk.entries]
    assert all(section.table != mine for frame in frames for section in frame.sections)


def test_game_without_cells_is_recorded_as_its_clients_see_it() -> None:
    assert overview.schema_of(define(Swarm)) != define(Swarm).schema
    assert overview.schema_of(CARDS) == CARDS.schema
    assert RoomTable(CARDS, capacity=1).writer.overview is None
