"""Find the next node of a room whose node does not answer for it.

A room is lost when its Attach broke, when its node refused to take its clients back, when it was
told to have moved, or when it fell silent. Its ownership record is read until the node answers
again: another owner or a higher epoch moves the room's streams there, no record ends them (CLOSED
with the match's result, or `ROOM_LOST` without one), the same record, or one of a lower epoch as a
broker that lags gives it, means waiting, at most `give_up_s` while clients are without a node.

A node that was silent for long and speaks again may have lost the room meanwhile, to the last
snapshot before its silence, and not know it yet: what it says is passed on once the record named it
for `SURE_S` more. By then the room would be another's, or the node has stored it anew.
Client streams stay open all the while and hear keep-alives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rallypoint.gateway import rooms_stream
from rallypoint.gateway.domain import sync
from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_registry import Registry
from rallypoint.gateway.rooms_stream import Room
from rallypoint.kit import errors, metrics
from rallypoint.v1 import room_pb2

log = logging.getLogger(__name__)

PERIOD_S = 0.25
LAST_WORD_S = 3.0
SURE_S = 1.0
"""Longer than a node takes to store its rooms, and fleet to give away those it has given up."""
Result = Callable[[str], Awaitable[room_pb2.MatchResult | None]]
"""Reads the result of a match that ended lately."""


async def _none(room_id: str) -> None:
    return None


class Recovery:
    """Looks for lost rooms, one after the other: reading a record takes a fraction of a ms."""

    def __init__(
        self, board: Board, registry: Registry, *, give_up_s: float, result: Result = _none
    ) -> None:
        self._board = board
        self._registry = registry
        self._give_up_s = give_up_s
        self._result = result

    async def run(self) -> None:
        """Recover until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._board.lost:
                await self.once()

    async def once(self) -> None:
        """Look at every lost room once."""
        for room in list(self._board.lost):
            try:
                await self._look(room)
            except errors.Unavailable as problem:
                # NATS is away: nobody can know better, so everybody waits.
                log.info("recovery_waits", extra={"reason": str(problem)})
                for lost in self._board.lost:
                    self._trust_when_sure(lost)
                return

    async def _look(self, room: Room) -> None:
        if not room.streams:
            # Nobody here waits for it; the next call looks it up again.
            self._registry.forget(room)
            return
        place = await self._registry.place(room.room_id)
        if room.lost_at is None or room not in self._board.lost:
            return
        lost_s = self._board.clock() - room.lost_at
        away = any(stream.phase is sync.Phase.AWAY for stream in room.streams.values())
        if place is None:
            # A room that just ended may still have its last word on the way.
            if away or lost_s > LAST_WORD_S:
                await self._close(room)
        elif room.node is None or place.differs(room.node.address, room.placed_epoch):
            log.info("room_moved", extra={"room": room.room_id, "node": place.address})
            self._registry.move(room, place)
        elif room.doubted_at is not None:
            self._trust_when_sure(room)
        elif not away:
            self._board.found(room)
        elif lost_s > self._give_up_s:
            await self._close(room)
        else:
            room.node.ask_again(room)

    def _trust_when_sure(self, room: Room) -> None:
        """Believe a room's node again once it speaks and has kept the room for a while."""
        now = self._board.clock()
        if room.doubted_at is None:
            return
        if room.rhythm.seen_at <= room.doubted_at and now - room.doubted_at < self._give_up_s:
            return
        if room.believed_at is None:
            room.believed_at = now + SURE_S
        elif now >= room.believed_at and room.node is not None:
            room.node.trust(room)

    async def _close(self, room: Room) -> None:
        result = await self._result(room.room_id)
        if room not in self._board.lost:
            return
        closed = room_pb2.Control(kind=room_pb2.CONTROL_KIND_CLOSED, reason="ROOM_LOST")
        if result is not None:  # the node died before it could say so
            closed.reason = "FINISHED"
            closed.result.CopyFrom(result)
        else:
            metrics.GATEWAY_ROOMS_LOST.inc()
        log.warning(
            "room_lost",
            extra={
                "room": room.room_id,
                "streams": len(room.streams),
                "finished": result is not None,
            },
        )
        message = rooms_stream.control(closed.kind, source=closed)
        for stream in list(room.streams.values()):
            self._board.end(stream, control=message)
        self._registry.forget(room)
