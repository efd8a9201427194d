"""What no frame triggers: one task looks after all streams ten times a second.

- Keep-alive: an empty message to every stream that was silent for `quiet_s` (a room whose frames go
  to everybody is skipped in one comparison, so this costs per room, not per stream).
- Keyframes: for a stream that is behind or still without its keyframe one is asked for again, once
  its client has read what was sent; one that has not for long is kicked (`rooms_ladder`).
- Silent rooms: a node may be cut off from everybody but us, and its room have gone on elsewhere; so
  a room without frames for a second has its ownership record read again. After two and a half the
  node is not believed any more when it speaks again (`rooms_recovery`).
- Sessions: a stream lives on while this gateway knows an access token of its player that has not
  expired; else it ends with a RECONNECT control and UNAUTHENTICATED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rallypoint.gateway import rooms_stream
from rallypoint.gateway.domain import sync
from rallypoint.gateway.fanout import Problem
from rallypoint.gateway.rooms_board import Board, reconnect
from rallypoint.gateway.rooms_stream import Room, Stream
from rallypoint.kit import errors, metrics

PERIOD_S = 0.1
KEYFRAME_WAIT_S = 1.0
SILENT_ROOM_S = 1.0
DOUBTFUL_S = 2.5
"""Nobody gives a room away that was silent for less: three heartbeats have to be missing."""
ASLEEP_S = 1.0
"""A sweep that is so late was held up itself: what was sent meanwhile is still to be read."""
_ASKING = (sync.Phase.FRESH, sync.Phase.BEHIND)
KEEP_ALIVE = b""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """The sweep's times."""

    quiet_s: float = 0.4
    """Silence after which a stream gets an empty message; with the period at most 500 ms."""
    sessions_every_s: float = 1.0
    """How often the ends of sessions are looked at."""


class Sweep:
    """The periodic part of the rooms."""

    def __init__(
        self,
        board: Board,
        rooms: Callable[[], Iterable[Room]],
        *,
        session_end_s: Callable[[str], float],
        now_s: Callable[[], float],
        settings: SweepSettings,
    ) -> None:
        self._board = board
        self._rooms = rooms
        self._session_end_s = session_end_s
        self._now_s = now_s
        self._settings = settings
        self._sessions_at = 0.0
        self._swept_at = self._awake_at = rooms_stream.NEVER
        self.inputs_per_s = 0.0
        """SendInput calls per second, smoothed over about two seconds."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.once(self._board.clock())

    def once(self, now: float) -> None:
        """One sweep at loop time `now`."""
        silent = now - self._settings.quiet_s
        if now - self._swept_at >= ASLEEP_S:
            self._awake_at = now
        self._swept_at = now
        # Most rooms are well: this line is all that they cost.
        unwell = [room for room in self._rooms() if room.unsettled or room.full_at <= silent]
        if unwell:
            self._look_after_slow(unwell, now)
            self._keep_alive(unwell, now)
        if now >= self._sessions_at:
            self._sessions_at = now + self._settings.sessions_every_s
            self._end_sessions()
        self._publish()

    def _keep_alive(self, rooms: list[Room], now: float) -> None:
        due = [stream for room in rooms for stream in self._due(room, now)]
        if not due:
            return
        slots = [stream.slot for stream in due]
        problems = dict(self._board.fan_out.push(slots, [KEEP_ALIVE] * len(slots)))
        for slot, stream in zip(slots, due, strict=True):
            node = stream.room.node
            if (problem := problems.get(slot)) is not None:
                if node is not None:
                    node.missed(slot, problem)
                if problem is not Problem.FILLING:
                    continue
            stream.sent_at = now
            if node is not None and self._wants_keyframe(stream, now):
                node.resync(stream)

    def _due(self, room: Room, now: float) -> Iterator[Stream]:
        """The streams of a room that must hear something."""
        silent = now - self._settings.quiet_s
        if room.full_at > silent:
            streams: Iterable[Stream] = room.unsettled
        else:
            streams = room.streams.values()
            self._check_silent(room, now)
        for stream in streams:
            if stream.slot < 0:
                continue
            heard = stream.sent_at
            if stream.phase is sync.Phase.IN_STEP:
                heard = max(heard, room.full_at)
            if heard <= silent or self._wants_keyframe(stream, now):
                yield stream

    def _check_silent(self, room: Room, now: float) -> None:
        heard = max(room.full_at, room.checked_at)
        if room.streams and now - heard >= SILENT_ROOM_S:
            room.checked_at = now
            self._board.lose(room)
        seen_at = room.rhythm.seen_at
        if (
            room.node is None
            or room.doubted_at is not None
            or not room.node.link.attached
            or not room.streams
            or seen_at <= room.taken_at
        ):
            return  # of one that takes a room up nobody has heard yet
        if now - max(seen_at, self._awake_at) >= DOUBTFUL_S:
            room.node.doubt(room)

    def _wants_keyframe(self, stream: Stream, now: float) -> bool:
        if stream.phase not in _ASKING or now - stream.asked_at < KEYFRAME_WAIT_S:
            return False
        return stream.phase is sync.Phase.FRESH or self._board.ladder.wants_keyframe(stream)

    def _look_after_slow(self, rooms: list[Room], now: float) -> None:
        ladder = self._board.ladder
        unsettled = [stream for room in rooms for stream in room.unsettled]
        slow = [stream for stream in unsettled if stream.slow is not None and stream.slot >= 0]
        for stream in slow:
            if ladder.is_over(stream, now):
                ladder.kick(stream)
            elif waited := ladder.overdue(stream, now):
                stream.sent_at = now
                for slot, problem in self._board.fan_out.push([stream.slot], [waited]):
                    if stream.room.node is not None:
                        stream.room.node.missed(slot, problem)

    def _end_sessions(self) -> None:
        now = self._now_s()
        streams = [stream for room in self._rooms() for stream in room.streams.values()]
        for stream in streams:
            if stream.token_expires_s > now:
                continue
            stream.token_expires_s = self._session_end_s(stream.player_id)
            if stream.token_expires_s <= now:
                self._end_session(stream)

    def _end_session(self, stream: Stream) -> None:
        if stream.room.node is not None:
            stream.room.node.leave(stream)
        error = errors.Unauthenticated("TOKEN_EXPIRED", "the session was not renewed")
        self._board.end(stream, error, control=reconnect("TOKEN_EXPIRED"))

    def _publish(self) -> None:
        """Move the hot paths' plain counters into the metrics."""
        counts = self._board.counts
        if counts.inputs:
            metrics.GATEWAY_INPUTS.inc(counts.inputs)
        if counts.stale:
            metrics.GATEWAY_FRAMES_STALE.inc(counts.stale)
        self.inputs_per_s += (counts.inputs / PERIOD_S - self.inputs_per_s) * PERIOD_S / 2
        counts.inputs = counts.stale = 0
