"""A room as a stored message: what is read back is what was taken."""

import pytest
from tests.support.rooms import room_of

from rallypoint.games import skirmish, tictactoe
from rallypoint.games.engine import RoomTable
from rallypoint.games.game import Game
from rallypoint.internal.v1 import snapshot_pb2
from rallypoint.kit import errors
from rallypoint.room_state import captured


@pytest.mark.parametrize("game", [skirmish.Skirmish, tictactoe.TicTacToe])
def test_stored_room_reads_back_equal(game: type[Game]) -> None:
    room, table = room_of(game)
    item = captured.take(room, table, now=10.0, at=1_700_000_000.5)
    back = captured.from_bytes(captured.to_message(item).SerializeToString())
    assert back.engine == item.engine
    assert back.book == item.book
    assert back.replies == item.replies
    assert back.at == item.at
    assert (back.identity.own_revision, back.identity.epoch) == (0, 3)
    assert (back.identity.options, dict(back.identity.trace)) == (
        room.identity.options,
        {"traceparent": "00-1"},
    )
    other = RoomTable(table.definition, capacity=1)
    assert other.restore(back.spec(4), back.engine) == 0
    assert other.room(0).options == {"time_limit_s": 9}


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    with pytest.raises(errors.FailedPrecondition, match="SNAPSHOT_MALFORMED"):
        captured.from_bytes(b"\xff\xff")
    seat = snapshot_pb2.SeatSnapshot(state=99)
    with pytest.raises(errors.FailedPrecondition, match="SNAPSHOT_MALFORMED"):
        captured.from_bytes(snapshot_pb2.RoomSnapshot(seats=[seat]).SerializeToString())
