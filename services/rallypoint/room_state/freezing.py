"""When a node stands still: it may have been given up, and cannot know (decisions §3).

Without NATS and without fleet's ping for ten seconds its rooms may go on elsewhere by now, so they
stop ticking; either alone costs no tick. A process that was stopped itself for a while (SIGSTOP, a
paused machine) stands still at once. Rooms go on when fleet pings again, which it does for living
nodes only, or when NATS is back and each room was stored under its fence: those that cannot be are
another node's, and end here. A ping may have waited in a socket since before the freeze; so only
one counts that names the freeze, as the answer to an earlier one did. While it stands still a room
answers no messages either.

Long before that a node that misses fleet's pings may have been given up: until it is sure again
that a room is its own, it answers no message there (`was_alone`). What is answered is never lost.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from rallypoint.kit import errors, metrics
from rallypoint.room_state.node import Node

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.25
ALONE_S: Final = 2.5
"""Without fleet's ping; it needs three seconds to give a node up, and pings each second."""
SURE_AFTER_S: Final = 2.0
"""After a ping that came late, which may have waited in a socket; rooms are stored meanwhile."""
SUSPENDED_S: Final = 3.0
"""A step that comes so late means that the process did not run."""


class Link(Protocol):
    """The bus, as far as it matters here."""

    @property
    def is_connected(self) -> bool:
        """Whether it can be used now."""


class Freezing:
    """Stops and starts the rooms of a node."""

    def __init__(self, node: Node, link: Link, *, after_s: float) -> None:
        self._node = node
        self._link = link
        self._after_s = after_s
        self._pinged_at = self._linked_at = self._alone_until = float("-inf")
        self._looked_at = float("inf")
        self._freezes = 0
        self._known_alive_in = 0
        """The freeze since which fleet has pinged."""
        metrics.ROOM_FROZEN.set_function(lambda: float(node.frozen))

    def pinged(self, frozen: int) -> int:
        """Fleet takes this process for alive, and knows of this freeze; the one of now, or 0."""
        now = asyncio.get_running_loop().time()
        if self._is_late(now):
            self._alone_until = now
        self._pinged_at = now
        self._known_alive_in = max(self._known_alive_in, frozen)
        return self._freezes if self._node.frozen else 0

    def is_in_doubt(self) -> bool:
        """Whether rooms may be another node's: they stand still, or will as soon as we look."""
        silent_s = asyncio.get_running_loop().time() - self._looked_at
        return self._node.frozen or silent_s > SUSPENDED_S

    def was_alone(self) -> bool:
        """Whether fleet, if there is one, may have given this process up a moment ago."""
        now = asyncio.get_running_loop().time()
        return self._is_late(now) or now - self._alone_until < SURE_AFTER_S

    def _is_late(self, now: float) -> bool:
        """Whether a ping is missing; before the first one there may be no fleet."""
        return ALONE_S < now - self._pinged_at < float("inf")

    async def run(self) -> None:
        """Watch for ever."""
        loop = asyncio.get_running_loop()
        self._looked_at = self._linked_at = loop.time()
        while True:
            await asyncio.sleep(PERIOD_S)
            now = loop.time()
            if self._link.is_connected:
                self._linked_at = now
            silent_s = now - max(self._linked_at, self._pinged_at)
            if silent_s > self._after_s or now - self._looked_at > SUSPENDED_S:
                self._freeze()
            elif self._node.frozen:
                await self._thaw()
            self._looked_at = loop.time()

    def _freeze(self) -> None:
        if not self._node.frozen:
            self._freezes += 1
            self._node.freeze(frozen=True)
            logger.warning("rooms_frozen", extra={"rooms": len(self._node.rooms)})

    async def _thaw(self) -> None:
        if self._known_alive_in < self._freezes:
            try:
                await self._node.store_all()
            except errors.RallypointError as error:
                logger.info("thaw_waits", extra={"reason": str(error)})
                return
        self._node.freeze(frozen=False)
        logger.warning("rooms_thawed", extra={"rooms": len(self._node.rooms)})
