"""When a node stands still: it may have been given up, and cannot know (decisions §3).

Without NATS and without fleet's ping for ten seconds its rooms may go on elsewhere by now, so they
stop ticking; either alone costs no tick. A process that was stopped itself for a while (SIGSTOP, a
paused machine) stands still at once. Rooms go on when fleet pings again, which it does for living
nodes only, or when NATS is back and each room was stored under its fence: those that cannot be are
another node's, and end here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from rallypoint.kit import errors, metrics
from rallypoint.room_state.node import Node

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.25
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
        self._pinged_at = self._linked_at = float("-inf")
        self._frozen_at = 0.0
        metrics.ROOM_FROZEN.set_function(lambda: float(node.frozen))

    def pinged(self) -> None:
        """Fleet takes this process for alive."""
        self._pinged_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Watch for ever."""
        loop = asyncio.get_running_loop()
        looked_at = self._linked_at = loop.time()
        while True:
            await asyncio.sleep(PERIOD_S)
            now = loop.time()
            if self._link.is_connected:
                self._linked_at = now
            silent_s = now - max(self._linked_at, self._pinged_at)
            if silent_s > self._after_s or now - looked_at > SUSPENDED_S:
                self._freeze(now)
            elif self._node.frozen:
                await self._thaw()
            looked_at = loop.time()

    def _freeze(self, now: float) -> None:
        if not self._node.frozen:
            self._frozen_at = now
            self._node.freeze(frozen=True)
            logger.warning("rooms_frozen", extra={"rooms": len(self._node.rooms)})

    async def _thaw(self) -> None:
        if self._pinged_at <= self._frozen_at:
            try:
                await self._node.store_all()
            except errors.RallypointError as error:
                logger.info("thaw_waits", extra={"reason": str(error)})
                return
        self._node.freeze(frozen=False)
        logger.warning("rooms_thawed", extra={"rooms": len(self._node.rooms)})
