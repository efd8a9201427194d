"""One client's stream and one room, as this gateway knows them.

A `Stream` moves through `domain.sync`; a `Room` holds the streams of one room here and the node
that runs it now. Both are plain state: `rooms_node` writes frames to them, `rooms_sweep` looks
after the quiet and the slow, `rooms_recovery` finds a lost room's next node.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rallypoint.gateway import calls
from rallypoint.gateway.domain import holding, merging, sync
from rallypoint.gateway.domain.rhythm import Rhythm
from rallypoint.internal.v1.room_host_pb2 import PACE_FULL, ClientJoin, Pace
from rallypoint.kit import errors, metrics
from rallypoint.v1 import room_pb2

if TYPE_CHECKING:
    from rallypoint.gateway.rooms_ladder import Slow
    from rallypoint.gateway.rooms_node import Node

NEVER = float("-inf")
_AT_ONCE = Rhythm()
_ANEW = (sync.Event.DETACHED, sync.Event.EPOCH_RAISED)


@dataclass(slots=True, eq=False)
class Hold:
    """What waits while a room moves."""

    over: asyncio.Event
    """Set when it waits no more."""
    inputs: holding.HeldInputs = field(default_factory=holding.HeldInputs)


@dataclass(slots=True, eq=False)
class Room:
    """One room. Rooms without streams stay a while for the calls of clients at other gateways."""

    room_id: str
    epoch: int
    node: Node | None = None
    streams: dict[int, Stream] = field(default_factory=dict)
    """All streams of the room here, also those that wait for their welcome, by client number."""
    unsettled: set[Stream] = field(default_factory=set)
    """Those of them that are not in step."""
    full_at: float = NEVER
    """When a frame last went to every stream that was in step, loop time."""
    rhythm: Rhythm = field(default_factory=Rhythm)
    """When it looks at its inputs."""
    placed_epoch: int = 0
    """The epoch of the ownership record that led to `node`."""
    checked_at: float = NEVER
    """When its ownership record was last asked for because it was silent, loop time."""
    lost_at: float | None = None
    """Since when its node does not answer for it."""
    taken_at: float = NEVER
    """When its node became that, or the first of its streams came here, or the node is to give
    seats anew: its silence counts from the first frame after that, loop time."""
    doubted_at: float | None = None
    """Since when its node is not believed, as it was silent for long, and what it says of the room
    is not passed on; loop time."""
    believed_at: float | None = None
    """When it will be, as it speaks again and still has the room; loop time."""
    used: bool = True
    """Something happened since the last sweep of idle rooms."""
    hold: Hold | None = None
    """Set while the room moves to another node."""
    refused: set[Stream] = field(default_factory=set)
    """Streams whose join was put off because of that."""
    schema: bytes = b""
    """The welcome's, serialized."""
    _merger: merging.Merger | None = None

    def merger(self) -> merging.Merger:
        """What makes two frames of the room one."""
        if self._merger is None:
            self._merger = merging.Merger(self.schema)
        return self._merger

    async def settled(self) -> None:
        """Wait while the room moves."""
        while self.hold is not None:
            await self.hold.over.wait()


@dataclass(slots=True, eq=False)
class Stream:
    """One client stream, from the join to its end."""

    client: int
    """The gateway's number for it; never used twice."""
    room: Room
    outlet: calls.Outlet
    player_id: str
    seat_tokens: tuple[bytes, ...]
    schema_hash: int
    token_expires_s: float
    """When the access token it was opened with ends, unix time."""
    joined: asyncio.Future[None]
    """Done once welcomed; carries the error of a refusal."""
    attempt: tuple[int, int] = (0, 0)
    """Which client's join it is, and which of those."""
    phase: sync.Phase = sync.Phase.JOINING
    slot: int = -1
    """Its place in the fan-out once welcomed."""
    seat_slot: int = 0
    generation: int = 0
    sent_at: float = NEVER
    """When something other than a frame was last written, loop time."""
    asked_at: float = NEVER
    """When a keyframe was last asked for, loop time."""
    slow: Slow | None = None
    """Set while it does not get every frame."""
    pace: Pace.ValueType = PACE_FULL
    """What its room says of its acknowledgements."""
    restored_at: float = NEVER
    """When it last got every frame again, loop time."""
    stayed_s: float = 0.0
    """How long it had to keep up for that."""

    def step(self, event: sync.Event) -> None:
        """Move on, and keep the room's set of streams that are not in step."""
        self.phase = sync.step(self.phase, event)
        if self.slow is not None and event in _ANEW:
            self.slow.start_anew()
        if self.phase in (sync.Phase.IN_STEP, sync.Phase.ENDED):
            self.room.unsettled.discard(self)
        else:
            self.room.unsettled.add(self)

    def as_join(self) -> ClientJoin:
        """What asks a node for this stream's seat: with tokens at first, later by generation."""
        waiting = self.phase is sync.Phase.JOINING
        client_id, attempt = self.attempt if waiting else (0, 0)
        return ClientJoin(
            client=self.client,
            room_id=self.room.room_id,
            player_id=self.player_id,
            seat_tokens=self.seat_tokens if waiting else (),
            generation=self.generation,
            slot=self.seat_slot,
            client_id=client_id,
            attempt=attempt,
        )

    def refuse(self, error: errors.RallypointError) -> None:
        """Answer the waiting join with an error."""
        if not self.joined.done():
            self.joined.set_exception(error)

    def say(self, message: bytes) -> None:
        """Send one message outside the fan-out; a client that cannot take it is cut."""
        try:
            self.outlet.send(message)
        except errors.ResourceExhausted as overflow:
            self.outlet.end(overflow)


def release(room: Room, now: float) -> None:
    """Send what was held while the room moved to its present node, and let waiting calls go on."""
    hold, room.hold = room.hold, None
    if hold is None:
        return
    for data in hold.inputs.take(now):
        if room.node is not None:
            room.node.link.input(data, now=now, rhythm=_AT_ONCE)
    metrics.GATEWAY_INPUTS_DROPPED.inc(hold.inputs.given_up)
    hold.over.set()


def control(
    kind: room_pb2.ControlKind.ValueType,
    reason: str = "",
    *,
    source: room_pb2.Control | None = None,
) -> bytes:
    """A serialized JoinResponse with a control; `source` gives one whole."""
    said = source or room_pb2.Control(kind=kind, reason=reason)
    return room_pb2.JoinResponse(control=said).SerializeToString()
