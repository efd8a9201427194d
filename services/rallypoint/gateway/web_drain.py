"""The drain: inputs of connections that send nothing else, taken in C a batch at a time.

A connection whose requests have repeated, or a WebSocket whose messages of one lane have, is armed:
its socket leaves the event loop for an epoll of its own, and what came is read, compared, judged
and answered in one call (`_edge.Drain`), shortly before inputs leave for their node, else every 4
to 16 ms. What is judged anew for each input: its form, the times of session and stream token,
the player's bucket, whether the room's node is known and the room stays where it is.

Whatever differs (another head or token, half a request, two at once, an end, an empty bucket, a
moving room) comes back here with its bytes, and the connection goes on in the event loop as if it
had never left: nothing was counted or taken for it. It is armed again when requests repeat again,
each time a little later. The answer says that an input was received, as on the long way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rallypoint.gateway import calls, web_metrics
from rallypoint.gateway.domain import buckets, looking
from rallypoint.gateway.fanout import socket_of

if TYPE_CHECKING:
    from rallypoint.gateway import _edge

logger = logging.getLogger(__name__)

QUIET_DRAINS = 20
"""After so many that brought nothing the socket itself wakes us again."""


@dataclass(frozen=True, slots=True)
class Arming:
    """What makes a connection's requests known: a POST's head, or the number of a lane."""

    before: bytes
    """A request's head up to the content-length."""
    after: bytes
    """The head behind it."""
    answer: bytes
    session: Any
    standing: calls.Standing
    peer: str
    """The client's address; behind a proxy the one that the proxy names."""
    tally: web_metrics.Tally
    call: int = 0
    """The lane of a WebSocket, whose messages have no head and no answer; 0: POSTs."""


class Line(Protocol):
    """A connection that can be armed."""

    transport: asyncio.Transport
    armed: int | None
    """Its place in the drain."""

    @property
    def is_quiet(self) -> bool:
        """True when nothing half received or unanswered keeps it in the event loop."""

    def returned(self, data: bytes, unsent: bytes) -> None:
        """Go on in the event loop, with the end of an answer and what came, if anything."""


class Bounds(Protocol):
    """What the guard says of players (`limits.Guard`)."""

    @property
    def inputs(self) -> buckets.Buckets:
        """What players may send, by player, on the event loop's clock."""

    def until_s(self, session: Any) -> float:
        """When a session ends, unix time."""

    def watch_blocks(self, blocked: Callable[[str], None]) -> None:
        """Tell of addresses that are refused from now on."""


class Deliver(Protocol):
    """Who passes inputs on (`rooms_inputs.PlainInputs`)."""

    def deliver(self, node: Any, data: bytes, *, count: int, now: float, wait_s: float) -> float:
        """Pass on `count` inputs for a node, encoded, that may wait so long at loop time `now`; how
        long they will."""


@dataclass(slots=True)
class _Armed:
    line: Line
    address: str
    player_id: str


class InputDrain:
    """Armed connections of one edge, all of the same method."""

    def __init__(
        self,
        drain: _edge.Drain,
        bounds: Bounds,
        deliver: Deliver,
        *,
        loop: asyncio.AbstractEventLoop,
        now_s: Callable[[], float],
        lead_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` is the loop's, or one that agrees with it and is finer."""
        self._drain = drain
        self._bounds = bounds
        self._deliver = deliver
        self._loop = loop
        self._now_s = now_s
        self._clock = clock or loop.time
        self._lead_s = lead_s
        self._armed: dict[int, _Armed] = {}
        self._tally = web_metrics.UNKNOWN
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = 0
        self._looks = looking.Looks()
        self._ahead_s = 0.0
        """How much earlier than asked for inputs last left: the way to a node."""
        self._closed = False
        self.inputs = 0
        """Inputs taken since start."""
        bounds.watch_blocks(self._refuse)
        loop.add_reader(drain.fileno(), self._wake)

    @property
    def connections(self) -> int:
        """How many are armed now."""
        return len(self._armed)

    def offer(self, line: Line, arming: Arming) -> None:
        """Arm a connection once what was written to it is on its way."""
        self._loop.call_soon(self._arm, line, arming)

    def _arm(self, line: Line, arming: Arming) -> None:
        fd = socket_of(line.transport)
        if fd < 0 or line.armed is not None or not line.is_quiet:
            return
        line.transport.pause_reading()
        player_id: str = arming.session.player_id
        bucket = self._bounds.inputs.hold(player_id)
        try:
            line.armed = self._arm_socket(fd, line, arming, bucket)
        except OSError:  # the kernel's bound on watches: it goes on in the event loop
            self._bounds.inputs.release(player_id, self._loop.time())
            line.transport.resume_reading()
            return
        self._tally = arming.tally
        self._armed[line.armed] = _Armed(line, buckets.address_key(arming.peer), player_id)

    def _arm_socket(self, fd: int, line: Line, arming: Arming, bucket: buckets.Bucket) -> int:
        standing, session = arming.standing, arming.session
        return self._drain.arm(
            fd,
            line,
            arming.call,
            arming.before,
            arming.after,
            arming.answer,
            standing.opening,
            standing.seat,
            standing.room,
            bucket,
            min(standing.until_s, self._bounds.until_s(session)),
            self._loop.time(),
        )

    def seen_at(self, line: Line) -> float:
        """When an armed connection last sent something, loop time."""
        return self._drain.seen_at(line.armed) if line.armed is not None else 0.0

    def forget(self, line: Line) -> None:
        """Disarm a connection, which is over or goes back by itself."""
        if line.armed is not None:
            self._drain.disarm(line.armed)
            self._strike(line, line.armed)

    def _strike(self, line: Line, slot: int) -> None:
        """Note that a connection is not armed any more."""
        armed = self._armed.pop(slot)
        self._bounds.inputs.release(armed.player_id, self._loop.time())
        line.armed = None

    def release(self, line: Line) -> None:
        """Disarm a connection; it goes on in the event loop."""
        if line.armed is not None:
            self.forget(line)
            line.returned(b"", b"")

    def close(self) -> None:
        """Disarm all and read no more. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for armed in list(self._armed.values()):
            self.release(armed.line)
        self._loop.remove_reader(self._drain.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._drain.close()

    def _refuse(self, address: str) -> None:
        """An address is refused: its connections are looked at by the guard again."""
        for armed in [armed for armed in self._armed.values() if armed.address == address]:
            self.release(armed.line)

    # --- time ---

    def _wake(self) -> None:
        """Something came after a silence: from here on look by the clock."""
        self._loop.remove_reader(self._drain.fileno())
        self._quiet = 0
        self._turn()

    def _turn(self) -> None:
        self._timer = None
        took = True
        try:
            took = self.once()
        finally:  # whatever goes wrong in this turn, the sockets are looked at again
            self._quiet = 0 if took else self._quiet + 1
            if not self._closed:
                self._look_again()

    def _look_again(self) -> None:
        if self._quiet >= QUIET_DRAINS:
            self._loop.add_reader(self._drain.fileno(), self._wake)
            return
        now = self._clock()
        self._timer = self._loop.call_at(now + self._looks.pause_s(now), self._turn)

    def _return(self, line: Line, data: bytes, unsent: bytes) -> None:
        """Hand a connection back; what is wrong with one must not stop the others."""
        try:
            line.returned(data, unsent)
        except Exception:
            logger.exception("return_failed")
            line.transport.abort()

    def once(self) -> bool:
        """Take what came; whether anything did."""
        now = self._clock()
        inputs = self._bounds.inputs
        taken, by_node, back, full = self._drain.drain(
            now, self._now_s(), self._lead_s, inputs.interval_s, inputs.depth_s
        )
        if taken:
            self.inputs += taken
            self._tally.quick += taken
            for node, data, count, wait_s, next_s in by_node:
                left_s = self._deliver.deliver(node, data, count=count, now=now, wait_s=wait_s)
                self._looks.took(now, left_s)
                if left_s > 0:
                    self._ahead_s = wait_s - left_s
                elif next_s > 0:
                    self._looks.go_on(now, next_s - self._ahead_s)
            self._looks.lasted(self._clock() - now)
        for line, _, _ in back:  # all of them first: one that returns may have others released
            self._strike(line, line.armed)
        for line, data, unsent in back:
            self._return(line, data, unsent)
        if full:
            self._loop.call_soon(self.once)
        return bool(taken or back)
