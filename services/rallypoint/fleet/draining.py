"""Nodes that drain: each of their rooms is moved to another node, a few at a time.

A node says so itself, in its registration: because it was asked to (`DrainNode`) or because its
process is to stop. So no state is kept here, and any fleet process may do the work; two that do it
at once are told apart by the room's node, which moves a room once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.moving import Mover
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.kit import errors, waiting
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId

logger = logging.getLogger(__name__)

PERIOD_S = 0.1
"""How often draining nodes are looked at."""
IDLE_S = 1.0
"""How often it is asked whether there are any, besides after each registration."""
AT_ONCE = 8
RETRY_S = 1.0
FINISHING = "ROOM_FINISHING"

Later = Callable[[Coroutine[Any, Any, None], str], None]
"""Runs a coroutine in the background, by name."""


@dataclass(slots=True)
class _Drain:
    """One process that drains: what was tried lately."""

    problem: str = ""
    finishing: set[RoomId] = field(default_factory=set)
    not_before: dict[RoomId, float] = field(default_factory=dict)


class Drains:
    """Moves rooms off the nodes that drain."""

    def __init__(
        self,
        mover: Mover,
        ownership: Ownership,
        *,
        registry: Registry,
        clock: Clock,
        later: Later,
        registered: asyncio.Event,
    ) -> None:
        self._registered = registered
        self._mover = mover
        self._ownership = ownership
        self._registry = registry
        self._clock = clock
        self._later = later
        self._drains: dict[str, _Drain] = {}
        self._moving: set[RoomId] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Look after draining nodes for ever."""
        while True:
            await self._wait_due()
            try:
                await self.once()
            except errors.RallypointError as error:
                logger.info("drain_waits", extra={"reason": str(error)})

    async def _wait_due(self) -> None:
        if self._drains:
            await asyncio.sleep(PERIOD_S)
            return
        await waiting.happens(self._registered, IDLE_S)
        self._registered.clear()

    async def once(self) -> None:
        """Begin what can be moved now."""
        draining = {node.place: node for node in self._registry.alive() if node.draining}
        self._drains = {place: self._drains.get(place, _Drain()) for place in draining}
        if not draining or len(self._moving) >= AT_ONCE:
            return
        now = self._clock.monotonic()
        for own in await self._ownership.all():
            if own.place not in draining or own.room_id in self._moving:
                continue
            drain = self._drains[own.place]
            if drain.not_before.get(own.room_id, now) <= now:
                self._moving.add(own.room_id)
                self._later(self._move(own, drain), f"drain.{own.room_id}")

    async def _move(self, own: Own, drain: _Drain) -> None:
        try:
            async with self._turns:
                await self._mover.move(own.room_id)
            drain.finishing.discard(own.room_id)
        except errors.RallypointError as error:
            if error.reason == FINISHING:
                drain.finishing.add(own.room_id)
            else:
                drain.problem = error.reason
            drain.not_before[own.room_id] = self._clock.monotonic() + RETRY_S
        finally:
            self._moving.discard(own.room_id)

    async def left(self, node: Node) -> tuple[int, int, str]:
        """Rooms on a node, how many of them finish there, and why the last move failed."""
        rooms = {own.room_id for own in await self._ownership.all() if own.place == node.place}
        drain = self._drains.get(node.place, _Drain())
        return len(rooms), len(drain.finishing & rooms), drain.problem
