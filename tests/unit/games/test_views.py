"""What a team or a seat alone may see reaches nobody else's bytes, and reaches them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games import codec
from rallypoint.games.columns import Table, flag, hidden, q16, u8, u32
from rallypoint.games.definition import CROWD, Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import ColumnGame, GameInfo
from rallypoint.games.harness import RoomHarness, fields
from rallypoint.games.room import Seat
from rallypoint.games.schema import Visibility
from rallypoint.games.views import Watch

SEATS = 5
WARDS = 7


class Plans(Table, visibility=Visibility.TEAM):
    goal = u32()
    at = q16(-10, 10)


class Wards(Table, rows=WARDS, visibility=Visibility.TEAM, team="side"):
    side = hidden("i8")
    charge = u32()
    lit = flag()


class Purse(Table, visibility=Visibility.OWNER):
    coins = u32()


class Board(Table, rows=1):
    score = u8()


class Plotters(ColumnGame):
    info = GameInfo(name="plotters", max_players=SEATS, late_join=True)
    tables = (Plans, Wards, Purse, Board)


PLOTTERS: Definition = define(Plotters)
SECRETS = st.integers(0xA7E59000, 0xA7E59FFF)  # of a look that nothing else has
CHANGES = st.lists(
    st.tuples(st.sampled_from(["goal", "charge", "side", "coins"]), st.integers(0, 6), SECRETS),
    max_size=6,
)


class Client:
    """All bytes a seat was sent, and what it makes of them."""

    def __init__(self, definition: Definition) -> None:
        self.decoder = codec.Decoder(definition.schema)
        self.bytes = b""
        self.fresh = True

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


def publish(table: RoomTable, slot: int, clients: dict[int, Client]) -> None:
    table.step()
    shared = [table.deltas()[slot], table.writer.keyframes([slot])[0]]
    fresh = frozenset(seat for seat, client in clients.items() if client.fresh)
    view = table.writer.views([Watch(slot, tuple(clients), fresh)])[0]
    for seat, client in clients.items():
        client.take(shared, [view.parts[at] for at in view.of[seat]])


@settings(max_examples=60)
@given(
    teams=st.lists(st.integers(0, 3), min_size=SEATS, max_size=SEATS),
    rounds=st.lists(st.tuples(CHANGES, st.sets(st.integers(0, SEATS - 1))), max_size=5),
)
def test_secrets_reach_only_those_they_are_for(
    teams: list[int], rounds: list[tuple[list[tuple[str, int, int]], set[int]]]
) -> None:
    table = RoomTable(PLOTTERS, capacity=3)
    seats = [Seat(slot, f"p{slot}", "P", team) for slot, team in enumerate(teams)]
    table.open(RoomSpec(id="other", seats=seats))
    slot = table.open(RoomSpec(id="room", seats=seats))
    room = table.room(slot)
    plans, wards, purse = room.table(Plans), room.table(Wards), room.table(Purse)
    clients = {seat: Client(PLOTTERS) for seat in range(SEATS)}
    told: dict[int, set[int]] = {seat: set() for seat in range(SEATS)}
    secrets = set()
    for changes, lost in rounds:
        for what, row, value in changes:
            secrets.add(value)
            if what == "goal":
                plans.goal[row % SEATS], plans.at[row % SEATS] = value, row
            elif what == "coins":
                purse.coins[row % SEATS] = value
            elif what == "side":
                wards.side[row] = value % 4
            else:
                wards.charge[row] = value
        for seat in lost:
            clients[seat].fresh = True
        publish(table, slot, clients)
        for seat, client in clients.items():
            own = np.array(teams) == teams[seat]
            its = wards.side == teams[seat]
            seen = client.decoder.tables
            assert np.array_equal(seen["plans"]["goal"], np.where(own, plans.goal, 0))
            assert np.array_equal(seen["plans"]["at"] != 0, own)
            assert np.array_equal(seen["wards"]["charge"], np.where(its, wards.charge, 0))
            assert seen["purse"]["coins"].tolist() == [purse.coins[seat]]
            told[seat] |= {*plans.goal[own].tolist(), *wards.charge[its].tolist()}
            told[seat].add(int(purse.coins[seat]))
    for seat, client in clients.items():
        for secret in secrets - told[seat]:
            assert secret.to_bytes(4, "little") not in client.bytes


def test_team_part_is_encoded_once_for_all_its_seats() -> None:
    table = RoomTable(PLOTTERS, capacity=1)
    slot = table.open(RoomSpec(id="r", seats=[Seat(s, f"p{s}", "P", s % 2) for s in range(4)]))
    table.room(slot).table(Plans).goal[:4] = 7
    table.step()
    table.deltas()
    view = table.writer.views([Watch(slot, range(4), frozenset())])[0]
    assert view.of[0] == view.of[2] != view.of[1] == view.of[3]
    assert len(view.parts) == 2


def test_late_player_sees_the_team_of_their_seat() -> None:
    room = RoomHarness(Plotters, players=2, teams=[4, 9])
    room.table(Plans).goal[:] = [5, 6, 7, 8, 9]
    room.step()
    assert room.seen("plans", seat=0)["goal"].tolist() == [5, 0, 0, 0, 0]
    assert room.add_player() == 2
    room.step()
    assert room.seen("plans", seat=2)["goal"].tolist() == [0, 0, 7, 0, 0]
    room.reload()
    assert room.seen("plans", seat=2)["goal"].tolist() == [0, 0, 7, 0, 0]
    assert room.seen("plans", seat=1)["goal"].tolist() == [0, 6, 0, 0, 0]


def test_table_of_teams_must_say_whose_a_row_is() -> None:
    with pytest.raises(ValueError, match="whose"):
        type("Loot", (Table,), {"x": u8()}, rows=3, visibility=Visibility.TEAM)
    with pytest.raises(ValueError, match="no column"):
        type("Loot", (Table,), {"x": u8()}, rows=3, visibility=Visibility.TEAM, team="y")


class Crowd(ColumnGame):
    info = GameInfo(name="crowd", max_players=CROWD + 1)
    tables = (Board,)


def test_clients_of_a_crowd_are_told_of_their_own_seat() -> None:
    room = RoomHarness(Crowd, players=CROWD + 1)
    room.step()
    assert room.definition.schema.tables[0].visibility is Visibility.OWNER
    assert room.seen("seats", seat=CROWD)["state"].tolist() == [2]
