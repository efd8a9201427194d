"""The harness shows each seat what its client sees."""

from rallypoint.games import GameInfo, RoomGame, RoomHarness, Table, Visibility, u8


class Hand(Table, visibility=Visibility.OWNER):
    card = u8()


class Deal(RoomGame):
    info = GameInfo(name="deal", max_players=3)
    tables = (Hand,)

    def on_join(self, seat: int) -> None:
        self.room.table(Hand).card[seat] = 7 + seat


def test_a_seat_sees_its_own_row_alone() -> None:
    room = RoomHarness(Deal, players=3)
    room.step()
    assert [room.seen("hand", seat=seat)["card"].tolist() for seat in range(3)] == [[7], [8], [9]]
    assert room.table(Hand).card.tolist() == [7, 8, 9]
