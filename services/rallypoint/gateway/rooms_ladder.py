"""What becomes of clients that read slowly, step by step, while the room and the others play on.

    every frame ──slow──▶ every other one ──far behind──▶ a keyframe, once drained
         ▲                   │       ▲                          │             │
         └─keeps up a while──┘       └──────────────────────────┘    10 s ▶ kicked

Slow is a connection that held something unsent at several frames in a row (the fan-out's FILLING),
or whose client acknowledges ticks later and later (its room says so: bytes may wait where no
gateway sees them). Who is halved gets two frames made one (`domain.merging`), more while something
is unsent; after `MOST_MERGED` of them, or when one could not be written, nothing but a keyframe
will do. Events are never passed over: those of frames that were withheld or could not be written go
along with the keyframe, also a later epoch's, up to `MOST_EVENTS`. What a client costs is therefore
one frame, these events and the fan-out's bound.

Kicked means KICKED `SLOW_CONSUMER`: the seat is kept for the grace time, and the client may join
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rallypoint.gateway import rooms_stream
from rallypoint.gateway.domain import frames, merging, sync
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors, metrics
from rallypoint.v1 import room_pb2

if TYPE_CHECKING:
    from rallypoint.gateway.rooms_board import Board
    from rallypoint.gateway.rooms_stream import Stream

MOST_MERGED: Final = 32
MOST_EVENTS: Final = 64
MOST_EVENT_BYTES: Final = 64 * 1024
STAY_S: Final = 2.0
"""How long a client must keep up to get every frame again; doubled each time it was too early."""
STAY_MOST_S: Final = 30.0
RELAPSE_S: Final = 10.0
KICK_AFTER_S: Final = 10.0
OVERDUE_S: Final = 0.2
"""How long a frame waits for the next one to be merged with."""
LINGER_S: Final = 2.0
"""How long a kicked client's connection is kept for the last word."""
HALF_RATE: Final = "HALF_RATE"
FULL_RATE: Final = "FULL_RATE"
SLOW_CONSUMER: Final = "SLOW_CONSUMER"
_HALVED = metrics.GATEWAY_SLOW_STEPS.labels("halved")
_HELD = metrics.GATEWAY_SLOW_STEPS.labels("keyframe")
_KICKED = metrics.GATEWAY_SLOW_STEPS.labels("kicked")
_RESTORED = metrics.GATEWAY_SLOW_STEPS.labels("restored")


@dataclass(slots=True)
class Slow:
    """A stream that does not get every frame."""

    troubled_at: float
    """When it last was slow, loop time."""
    stay_s: float = STAY_S
    waiting: bytes = b""
    """The frame that is to be sent next, as a message; empty for none."""
    waits_since: float = 0.0
    """Since when, loop time."""
    merged: int = 0
    """Of how many frames it was made."""
    events: list[bytes] = field(default_factory=list)
    """Events of frames that were withheld, as fields of a Frame."""
    event_bytes: int = 0
    behind_since: float | None = None
    """Since when it waits for a keyframe."""

    @property
    def overflows(self) -> bool:
        """Whether more happened than is kept for a client."""
        return len(self.events) > MOST_EVENTS or self.event_bytes > MOST_EVENT_BYTES

    def hold(self, found: Iterable[bytes]) -> None:
        """Keep events that their frame does not carry."""
        for event in found:
            self.events.append(event)
            self.event_bytes += len(event)

    def send(self) -> bytes:
        """The frame that waits, which does not any more."""
        sent, self.waiting, self.merged = self.waiting, b"", 0
        return sent

    def drop(self) -> None:
        """Something else will stand for the frame that waits, but not for what happened in it."""
        if self.waiting:
            self.hold(frames.look(frames.of_message(self.waiting)).events)
            self.waiting, self.merged = b"", 0

    def start_anew(self) -> None:
        """A keyframe will come without being asked for; of the room itself, or of a later epoch."""
        self.drop()
        self.behind_since = None


class Ladder:
    """The steps; streams are those of one gateway."""

    def __init__(self, board: Board) -> None:
        self._board = board

    # --- down ---

    def halve(self, stream: Stream) -> None:
        """It reads slowly: from now on it gets every other frame."""
        now = self._board.clock()
        slow = stream.slow
        if slow is None:
            again = now - stream.restored_at < RELAPSE_S
            stay_s = min(STAY_MOST_S, 2 * stream.stayed_s) if again else STAY_S
            slow = stream.slow = Slow(now, stay_s)
            _HALVED.inc()
        slow.troubled_at = now
        if stream.phase is sync.Phase.IN_STEP:
            self._leave_step(stream, sync.Event.SLOWED)
            self._say(stream, HALF_RATE)

    def skipped(self, stream: Stream, message: bytes = b"") -> None:
        """A frame could not be written, or is not to be: a keyframe must be next.

        `message` is that frame, unless it waits; what happened in it goes along with the keyframe.
        """
        if stream.slow is None and stream.phase is not sync.Phase.AWAY:
            self.halve(stream)
        slow = stream.slow
        self._leave_step(stream, sync.Event.SKIPPED)
        stream.asked_at = rooms_stream.NEVER
        if slow is None or stream.phase is not sync.Phase.BEHIND:
            return
        slow.troubled_at = self._board.clock()
        slow.drop()
        if message:
            slow.hold(frames.look(frames.of_message(message)).events)
        if slow.behind_since is None:
            slow.behind_since = slow.troubled_at
            _HELD.inc()
        if slow.overflows:
            self.kick(stream)

    def kick(self, stream: Stream) -> None:
        """It has not kept up for long, or would miss events: it may come back by itself."""
        _KICKED.inc()
        if stream.room.node is not None:
            stream.room.node.leave(stream)
        last_word = rooms_stream.control(room_pb2.CONTROL_KIND_KICKED, SLOW_CONSUMER)
        error = errors.ResourceExhausted(SLOW_CONSUMER, "the client reads too slowly")
        self._board.end(stream, error, control=last_word)
        stream.outlet.abandon(within_s=LINGER_S)

    # --- what is sent ---

    def take(self, stream: Stream, message: bytes, look: frames.Look) -> bytes | None:
        """What a halved stream gets of a room's frame now: nothing, this one, or several in one."""
        slow = stream.slow
        if slow is None:
            return message
        if not look.base_tick:  # a keyframe stands for all before it, but what happened
            slow.drop()
            slow.waiting, slow.merged = self._with_events(slow, message, look), 1
            slow.waits_since = self._board.clock()
        elif not self._merge(stream, slow, message):
            return None
        period = look.tick - look.base_tick if look.base_tick else 1
        if self._board.fan_out.unsent(stream.slot):
            slow.troubled_at = self._board.clock()
            if slow.merged >= MOST_MERGED:
                self.skipped(stream)
            return None
        if look.base_tick and look.tick // period % 2:
            return None
        return slow.send()

    def overdue(self, stream: Stream, now: float) -> bytes:
        """What waits for company that does not come, if its client can take it; empty for none."""
        slow = stream.slow
        if slow is None or not slow.waiting or now - slow.waits_since < OVERDUE_S:
            return b""
        return b"" if self._board.fan_out.unsent(stream.slot) else slow.send()

    def flush(self, stream: Stream) -> None:
        """Send what waits: the room says its last word."""
        if stream.slow is not None and stream.slow.waiting:
            stream.say(stream.slow.send())

    def withhold(self, stream: Stream, look: frames.Look) -> None:
        """A frame is not for a stream that waits for its keyframe; what happened in it still is."""
        slow = stream.slow
        if slow is not None and stream.phase is sync.Phase.BEHIND and look.events:
            slow.hold(look.events)
            if slow.overflows:
                self.kick(stream)

    def keyframe(self, stream: Stream, message: bytes, look: frames.Look) -> bytes:
        """The keyframe of a stream that waited for one, with all it has missed."""
        return message if stream.slow is None else self._with_events(stream.slow, message, look)

    def written(self, stream: Stream) -> None:
        """A frame was written to a slow stream: perhaps it is not slow any more."""
        slow = stream.slow
        if slow is None or stream.phase is not sync.Phase.HALVED:
            return
        now = self._board.clock()
        slow.behind_since = None
        if stream.pace != host.PACE_FULL:
            slow.troubled_at = now
        elif not slow.waiting and now - slow.troubled_at >= slow.stay_s:
            stream.slow, stream.stayed_s, stream.restored_at = None, slow.stay_s, now
            stream.step(sync.Event.CAUGHT_UP)
            if stream.room.node is not None:
                stream.room.node.in_step[stream.client] = stream.slot
            self._say(stream, FULL_RATE)
            _RESTORED.inc()

    # --- what others say ---

    def pace(self, stream: Stream, pace: host.Pace.ValueType) -> None:
        """Its room saw from its acknowledgements how it does."""
        stream.pace = pace
        if pace == host.PACE_FULL or stream.phase not in (sync.Phase.IN_STEP, sync.Phase.HALVED):
            return
        self.halve(stream)
        if pace == host.PACE_HOLD:
            self.skipped(stream)

    def wants_keyframe(self, stream: Stream) -> bool:
        """Whether a stream that missed frames has read what was sent before."""
        return stream.pace != host.PACE_HOLD and not self._board.fan_out.unsent(stream.slot)

    def is_over(self, stream: Stream, now: float) -> bool:
        """Whether a stream waits for its keyframe for too long."""
        slow = stream.slow
        if slow is None or slow.behind_since is None or stream.phase is not sync.Phase.BEHIND:
            return False
        return now - slow.behind_since >= KICK_AFTER_S

    # --- within ---

    def _leave_step(self, stream: Stream, event: sync.Event) -> None:
        stream.step(event)
        if stream.room.node is not None:
            stream.room.node.in_step.discard(stream.client)

    def _merge(self, stream: Stream, slow: Slow, message: bytes) -> bool:
        """Add a delta to what waits; False when only a keyframe helps."""
        if slow.waiting:
            try:
                slow.waiting = stream.room.merger().merge(slow.waiting, message)
            except merging.Unmergeable:
                self.skipped(stream, message)
                return False
        else:
            slow.waiting, slow.waits_since = message, self._board.clock()
        slow.merged += 1
        return True

    def _with_events(self, slow: Slow, message: bytes, look: frames.Look) -> bytes:
        """A keyframe with events before its own, which repeats the newest of them."""
        if not slow.events:
            return message
        first = frames.event_id(look.events[0]) if look.events else None
        missed = [event for event in slow.events if first is None or frames.event_id(event) < first]
        slow.events, slow.event_bytes = [], 0
        return frames.as_message(b"".join([*missed, frames.of_message(message)]))

    def _say(self, stream: Stream, reason: str) -> None:
        stream.say(rooms_stream.control(room_pb2.CONTROL_KIND_SLOW, reason))
        stream.sent_at = self._board.clock()
