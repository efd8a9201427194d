"""A room that stands still between two nodes: what reaches it meanwhile waits here.

While a room is handed over it has no place in a table. Inputs that were on their way go to the
target with the start; streams that end are ended here if the room stays, there if it goes. At the
target joins wait for the start: gateways hear of the commit as soon as it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors

if TYPE_CHECKING:
    from rallypoint.room_state.gateway_link import GatewayLink
    from rallypoint.room_state.hosted import Stream

ROOM_MOVING: Final = errors.Unavailable(
    "ROOM_MOVING", "the room is on its way to another node", retry_after_s=0.1
)

JOINS_MAX: Final = 4096
INPUTS_MAX: Final = 4096
"""Calls with inputs: gateways hold theirs back, so few come. Later ones are given up, since they
repeat what is not acknowledged; more would not fit into the message that starts the room."""


class Still:
    """What waits for one room."""

    def __init__(self, room_id: str, *, held: bool = False) -> None:
        self._room_id = room_id
        self.held = held
        """Whether the room comes here, rather than leaves."""
        self.inputs: list[host.ClientInput] = []
        self.left: list[host.SeatRef] = []
        self.ends: list[Callable[[], None]] = []
        """What ends streams, to be done if the room stays."""
        self.joins: list[tuple[GatewayLink, host.ClientJoin]] = []
        """Of streams that came before the room was started."""

    def offer(self, stream: Stream) -> Callable[[int, Sequence[bytes]], None]:
        """What takes a stream's inputs while the room stands still."""

        def take(first_seq: int, inputs: Sequence[bytes]) -> None:
            self.early(stream.slot, stream.generation, first_seq, inputs)

        return take

    def early(self, slot: int, generation: int, first_seq: int, inputs: Sequence[bytes]) -> None:
        """Keep inputs of a seat, as far as there is room."""
        if len(self.inputs) >= INPUTS_MAX:
            return
        seat = host.SeatRef(room_id=self._room_id, slot=slot, generation=generation)
        self.inputs.append(host.ClientInput(seat=seat, first_seq=first_seq, inputs=inputs))

    def wait(self, link: GatewayLink, request: host.ClientJoin) -> bool:
        """Keep a join for when the room runs; False when it is to be refused."""
        if not self.held or len(self.joins) >= JOINS_MAX:
            return False
        self.joins.append((link, request))
        return True

    def end(self, slot: int, generation: int, *, for_good: bool, end: Callable[[], None]) -> None:
        """A stream is over."""
        self.ends.append(end)
        if for_good:
            self.left.append(host.SeatRef(room_id=self._room_id, slot=slot, generation=generation))

    def take_left(self) -> list[host.SeatRef]:
        """The seats given up that nobody was told of; somebody is now."""
        left, self.left = self.left, []
        return left

    def take_inputs(self) -> list[host.ClientInput]:
        """The inputs that wait; they do not any more."""
        inputs, self.inputs = self.inputs, []
        return inputs
