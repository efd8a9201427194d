"""The drain of this node: games are asked whether they finish here, the rest moves away.

A drain begins because somebody asked (`rallypoint drain`) or because the process shall end. Fleet
sees it in the registration and moves the rooms; nothing here pushes. A process that shall end waits
for that while it can come true, and leaves what is left to recovery: stopped, with a snapshot of
that very moment.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.room_state.domain.draining import FINISH_MARGIN_S, Leave, may_go

if TYPE_CHECKING:
    from rallypoint.room_state.node import Node
    from rallypoint.room_state.runner import Placed

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
LOOK_S: Final = 1.0
NEVER: Final = float("inf")


class Drain:
    """One node's drain, and its end."""

    def __init__(self, node: Node, bus: Bus) -> None:
        self._node = node
        self._bus = bus
        self._ends_at = NEVER

    async def begin(self, within_s: float) -> None:
        """Take no more rooms; `within_s` is how long matches may go on here, 0 without a limit."""
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + within_s - FINISH_MARGIN_S if within_s else NEVER
        self._node.draining = True
        for placed in list(self._node.rooms.values()):
            await self._ask(placed)

    def end(self) -> None:
        """Take rooms again."""
        self._node.draining = False
        for placed in self._node.rooms.values():
            placed.room.finishing = None

    async def is_finishing(self, placed: Placed) -> bool:
        """Whether a room's match ends here instead of moving; its game is asked once."""
        if asyncio.get_running_loop().time() >= self._ends_at:
            return False
        await self._ask(placed)
        return bool(placed.room.finishing)

    async def _ask(self, placed: Placed) -> None:
        room = placed.room
        left_s = self._ends_at - asyncio.get_running_loop().time()
        within_s = 0.0 if self._ends_at == NEVER else max(0.001, left_s)

        def ask() -> None:
            if room.finishing is None and room.ended is None and room.still is None:
                room.finishing = placed.runner.table.drain(room.slot, within_s)

        await placed.runner.call(ask)

    # --- the end of the process ---

    async def leave(self, within_s: float) -> None:
        """Return when no room is left here, or none can leave by itself: those are stopped and
        stored, for another process to go on with."""
        loop = asyncio.get_running_loop()
        deadline, look_at, somewhere = loop.time() + within_s, 0.0, True
        while True:
            now = loop.time()
            if now >= look_at:
                look_at, somewhere = now + LOOK_S, await self._somewhere()
            rooms = [placed.room for placed in self._node.rooms.values()]
            state = Leave(
                rooms=len(rooms) + self._node.closing,
                finishing=sum(bool(room.finishing) for room in rooms),
                somewhere=somewhere,
                fleet_silent_s=now - self._node.fleet_heard_at,
                left_s=deadline - now,
            )
            if may_go(state):
                break
            await asyncio.sleep(POLL_S)
        await asyncio.gather(
            *(self._put_down(placed) for placed in list(self._node.rooms.values()))
        )

    async def _somewhere(self) -> bool:
        """Whether another node of our set takes rooms."""
        mine = self._node.settings
        try:
            entries = await self._bus.kv(subjects.NODES.name).entries(">")
        except errors.RallypointError:
            return True
        for entry in entries:
            try:
                record = events_pb2.NodeRecord.FromString(entry.value or b"")
            except DecodeError:
                continue
            if record.set == mine.set and record.node_id != mine.node_id and not record.draining:
                return True
        return False

    async def _put_down(self, placed: Placed) -> None:
        """Stop a room and store it as it is."""
        room = placed.room
        if not room.identity.own_revision or room.still is not None or room.ended is not None:
            return
        try:
            item = await placed.runner.call(
                functools.partial(placed.runner.suspend, room, at=self._node.clock.now())
            )
            await self._node.snapshots.store_copy(placed, item)
            logger.info("room_left_behind", extra={"room": room.identity.room_id})
        except Exception as error:  # its snapshot of a second ago has to do
            logger.warning(
                "room_not_stored", extra={"room": room.identity.room_id, "reason": str(error)}
            )
