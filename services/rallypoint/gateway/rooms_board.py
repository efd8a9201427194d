"""What all nodes of a gateway share: streams by fan-out slot, lost rooms, numbers, counts.

The board is where a stream enters and leaves every table. Slots of the fan-out are given to other
clients as soon as a stream ends, so a stream is taken off the board in the same breath.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from rallypoint.gateway import fanout, rooms_stream
from rallypoint.gateway.domain import sync
from rallypoint.gateway.rooms_ladder import Ladder
from rallypoint.gateway.rooms_stream import Room, Stream
from rallypoint.internal.v1.room_host_pb2 import RoomMove
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

AWAY_RETRY_S = 0.5


@dataclass(slots=True)
class Counts:
    """What happened on the hot paths since the last sweep moved it into the metrics."""

    inputs: int = 0
    """Inputs taken."""
    stale: int = 0
    """Frames withheld: of a lower epoch, or no keyframe while their client needs one."""


@dataclass(slots=True)
class Board:
    """What all nodes of a gateway share."""

    fan_out: fanout.FanOut
    stream_token: Callable[[Stream], bytes]
    """Makes the token of a stream whose seat and generation are known."""
    clock: Callable[[], float]
    """The event loop's clock, in less than the milliseconds that uvloop counts in."""
    on_move: Callable[[Room, RoomMove], None] = lambda room, said: None
    """Told what nodes say about rooms that move (`rooms_moves`)."""
    by_slot: dict[int, Stream] = field(default_factory=dict)
    lost: set[Room] = field(default_factory=set)
    """Rooms whose node does not answer for them: `rooms_recovery` looks for the next one."""
    counts: Counts = field(default_factory=Counts)
    calls: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    clients: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    ladder: Ladder = field(init=False)
    """What becomes of streams whose clients read slowly."""

    def __post_init__(self) -> None:
        """Give the ladder its board."""
        self.ladder = Ladder(self)

    def lose(self, room: Room) -> None:
        """Let somebody look for the room's node."""
        if room.lost_at is None:
            room.lost_at = self.clock()
        self.lost.add(room)

    def found(self, room: Room) -> None:
        """The room's node answers."""
        if room.doubted_at is not None:
            return  # it does, but may have lost the room while it did not
        room.lost_at = None
        self.lost.discard(room)

    def add(self, stream: Stream) -> None:
        """Count a stream among its room's."""
        if not stream.room.streams:
            stream.room.taken_at = self.clock()  # before, its node owed nobody here a frame
        stream.room.streams[stream.client] = stream
        stream.room.unsettled.add(stream)

    def place(self, stream: Stream) -> bool:
        """Give the stream a place in the fan-out; False when its client has left already."""
        if stream.outlet.closed:
            return False
        stream.slot = stream.outlet.slot
        self.by_slot[stream.slot] = stream
        stream.outlet.on_close(functools.partial(self.drop_slot, stream))
        return True

    def drop_slot(self, stream: Stream) -> None:
        """Forget a stream's place in the fan-out: it may be given to another client now."""
        if self.by_slot.get(stream.slot) is stream:
            del self.by_slot[stream.slot]
        if stream.room.node is not None:
            stream.room.node.in_step.discard(stream.client)
        stream.slot = -1

    def remove(self, stream: Stream) -> None:
        """Take a stream out of every table. Idempotent."""
        self.drop_slot(stream)
        stream.room.streams.pop(stream.client, None)
        stream.room.refused.discard(stream)
        if stream.room.node is not None:
            stream.room.node.streams.pop(stream.client, None)
        stream.step(sync.Event.ENDED)

    def end(
        self,
        stream: Stream,
        error: errors.RallypointError | None = None,
        *,
        control: bytes | None = None,
    ) -> None:
        """Say the last word and end the call; the node knows or has been told."""
        if not stream.joined.done():
            # The join itself answers; ending the call here would cancel it before it could.
            stream.refuse(error or errors.NotFound("ROOM_UNKNOWN", "the room has ended"))
            self.remove(stream)
            return
        if control is not None:
            stream.say(control)
        self.remove(stream)
        stream.outlet.end(error)


def away() -> errors.Unavailable:
    """The answer while a room's node cannot be reached."""
    return errors.Unavailable(
        "ROOM_AWAY", "the room cannot be reached now", retry_after_s=AWAY_RETRY_S
    )


def reconnect(reason: str) -> bytes:
    """The control that asks a client to join again."""
    return rooms_stream.control(room_pb2.CONTROL_KIND_RECONNECT, reason)
