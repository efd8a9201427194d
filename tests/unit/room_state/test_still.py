"""What waits for a room that stands still is bounded, however long it stands."""

from rallypoint.room_state.still import INPUTS_MAX, Still


def test_inputs_wait_up_to_a_limit_and_the_oldest_are_kept() -> None:
    still = Still("room")
    for number in range(INPUTS_MAX + 10):
        still.early(number % 8, 1, number, [b"x"])
    waiting = still.take_inputs()
    assert [item.first_seq for item in waiting] == list(range(INPUTS_MAX))
    still.early(0, 1, 7, [b"x"])
    assert [item.first_seq for item in still.take_inputs()] == [7]
