"""What calls with inputs say besides the inputs themselves, of all seats of a table of rooms.

Four numbers a seat, written where the inputs come in (in C, `room_state._attach`, where there is
one) and read as columns by whoever wants to know: how late a client is, what it sees, how early its
inputs come. Nothing here is part of a room's state: a room that goes on elsewhere hears it anew.
"""

from typing import Final

import numpy as np

from rallypoint.games.schema import Array

NUMBERS: Final = 4
MOST_MARGIN: Final = 255
ACK_TICK, VIEW_MS, MARGIN_MS, CALLS = range(NUMBERS)


class Heard:
    """Seat s of room r has the index r * seats + s."""

    def __init__(self, count: int) -> None:
        self.words = np.zeros((count, NUMBERS), np.int64)
        """The numbers, by seat."""

    @property
    def ack_tick(self) -> Array:
        """The newest tick that each seat's client has decoded; 0 before it said so."""
        return self.words[:, ACK_TICK]

    @property
    def view_ms(self) -> Array:
        """The room's time that it drew with its newest inputs, in ms; 0: it did not say."""
        return self.words[:, VIEW_MS]

    @property
    def margin_ms(self) -> Array:
        """How long before they had to leave for their tick they came, plus 1; 0: not known."""
        return self.words[:, MARGIN_MS]

    @property
    def calls(self) -> Array:
        """How many calls were heard of each seat's client."""
        return self.words[:, CALLS]

    def hear(self, seat: int, *, ack_tick: int, view_ms: int, margin_ms: int) -> None:
        """Note what one call says; one that was overtaken by another says nothing new."""
        words = self.words[seat]
        words[CALLS] += 1
        if ack_tick >= words[ACK_TICK]:
            words[:CALLS] = ack_tick, view_ms, margin_ms

    def show(self, margins: Array, wait_ticks: int) -> None:
        """Put `margin_ms` into the `seats` table of the first rooms, unless that has to wait."""
        if not wait_ticks:
            known = self.words[: margins.size, MARGIN_MS].reshape(margins.shape)
            margins[:] = np.minimum(known, MOST_MARGIN)

    def forget(self, seats: slice) -> None:
        """Somebody else is heard from now on."""
        self.words[seats] = 0
