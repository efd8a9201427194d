"""Rooms that come to this node while they are played: the target's side of a move.

A room is restored as soon as its state is here, so that what cannot work fails before the commit,
and stands still until it is started: by its source, or because `own.<room>` names this transfer
(the source died after the commit). What nobody starts is dropped: at once when the record names
somebody else, else when its time is over.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from rallypoint.games.saved import layout_hash
from rallypoint.internal.v1 import events_pb2
from rallypoint.internal.v1 import room_transfer_pb2 as transfer
from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.room_state import captured, seating, unbroken
from rallypoint.room_state.domain.moving import (
    ARRIVAL,
    Arriving,
    Coming,
    Owner,
    Verdict,
    step,
    verdict,
)
from rallypoint.room_state.still import ROOM_MOVING

if TYPE_CHECKING:
    from rallypoint.room_state.captured import Captured
    from rallypoint.room_state.node import Node, Spawn
    from rallypoint.room_state.runner import Placed

logger = logging.getLogger(__name__)

LOOK_PERIOD_S: Final = 0.25
LOOK_AFTER_S: Final = 0.5
EXPIRES_S: Final = 15.0
"""Longer than a source can be between handing over and the end of its commit."""


@dataclass(slots=True)
class _Arrival:
    """One room on its way here."""

    room_id: str
    epoch: int
    transfer: str
    since: float
    phase: Arriving = Arriving.PREPARED
    placed: Placed | None = None
    item: Captured | None = None

    def step(self, event: Coming) -> None:
        self.phase = step(ARRIVAL, self.phase, event)


class Arrivals:
    """Takes rooms in. `place` is this process as claims name it."""

    def __init__(self, node: Node, bus: Bus, *, place: str, spawn: Spawn) -> None:
        self._node = node
        self._spawn = spawn
        self._kv = bus.kv(subjects.OWNERS.name)
        self._place = place
        self._arrivals: dict[str, _Arrival] = {}
        self._come = asyncio.Event()

    async def prepare(self, request: transfer.PrepareRoomRequest) -> None:
        """Keep a place, or say why not. What takes time is done now, while the room plays."""
        definition = self._node.accepts(
            request.room_id, epoch=request.epoch, game=request.game, players=request.players
        )
        if layout_hash(definition) != request.layout:
            raise errors.FailedPrecondition(
                "SNAPSHOT_LAYOUT", "the game declares other columns here"
            )
        self._node.runner(definition)
        known = self._arrivals.get(request.room_id)
        if known is not None and known.transfer != request.transfer:
            self._drop(known)
        if known is None or known.transfer != request.transfer:
            self._arrivals[request.room_id] = _Arrival(
                request.room_id, request.epoch, request.transfer, asyncio.get_running_loop().time()
            )
            self._come.set()

    async def take(self, request: transfer.TransferRoomRequest) -> None:
        """Restore the room and hold it still, also when the caller has gone meanwhile."""
        work = self._take(request)
        await unbroken.to_the_end(self._spawn, work, name=f"take.{request.room_id}")

    async def start(self, request: transfer.StartRoomRequest) -> None:
        """Let the room run, also when the caller has gone meanwhile."""
        work = self._start(request)
        await unbroken.to_the_end(self._spawn, work, name=f"start.{request.room_id}")

    async def _take(self, request: transfer.TransferRoomRequest) -> None:
        arrival = self._known(request.room_id, request.transfer)
        if arrival.phase is not Arriving.PREPARED:
            return
        if arrival.item is not None:
            raise ROOM_MOVING  # an earlier call is at it
        arrival.item = captured.from_bytes(request.snapshot)
        try:
            placed = await self._node.hold(arrival.item, epoch=request.epoch)
        except BaseException:
            arrival.item = None
            raise
        if self._arrivals.get(request.room_id) is not arrival:  # dropped meanwhile
            self._node.drop(placed)
            raise _unknown()
        arrival.placed = placed
        arrival.since = asyncio.get_running_loop().time()
        arrival.step(Coming.TRANSFERRED)

    async def _start(self, request: transfer.StartRoomRequest) -> None:
        """Let the room run. One that was dropped comes back from the snapshot of its source."""
        arrival = self._arrivals.get(request.room_id)
        if arrival is not None and arrival.transfer == request.transfer:
            await self._run(arrival, request.own_revision)
        elif (placed := self._node.rooms.get(request.room_id)) is None or (
            placed.room.identity.epoch < request.epoch
        ):
            await self._node.restore(
                request.room_id, epoch=request.epoch, own_revision=request.own_revision
            )
        placed = self._node.rooms.get(request.room_id)
        if placed is not None:
            await placed.runner.call(functools.partial(_catch_up, placed, request))

    def abandon(self, request: transfer.AbandonRoomRequest) -> None:
        """Nothing came of it."""
        arrival = self._arrivals.get(request.room_id)
        if arrival is not None and arrival.transfer == request.transfer:
            self._drop(arrival)

    async def run(self) -> None:
        """Look after rooms that nobody starts, for ever; sleep while none comes."""
        while True:
            if not self._arrivals:
                self._come.clear()
                await self._come.wait()
            await asyncio.sleep(LOOK_PERIOD_S)
            for arrival in list(self._arrivals.values()):
                try:
                    await self._look(arrival)
                except errors.RallypointError as error:
                    logger.info(
                        "arrival_waits", extra={"room": arrival.room_id, "reason": str(error)}
                    )

    async def _look(self, arrival: _Arrival) -> None:
        held_s = asyncio.get_running_loop().time() - arrival.since
        if held_s < LOOK_AFTER_S:
            return
        entry = await self._kv.get(subjects.own(RoomId(arrival.room_id)))
        own, revision = None, 0
        if entry is not None and entry.value is not None:
            own, revision = _owner(entry.value), entry.revision
        if self._arrivals.get(arrival.room_id) is not arrival:
            return
        mine = Owner(self._place, arrival.epoch, arrival.transfer)
        match verdict(own, mine, held_s=held_s, expires_s=EXPIRES_S):
            case Verdict.START if arrival.phase is Arriving.HELD:
                logger.warning("room_started_by_its_record", extra={"room": arrival.room_id})
                metrics.ROOM_MOVES.labels("BY_RECORD").inc()
                await self._run(arrival, revision)
            case Verdict.DROP:
                self._drop(arrival)

    async def _run(self, arrival: _Arrival, own_revision: int) -> None:
        placed, item = arrival.placed, arrival.item
        if placed is None or item is None:
            return
        del self._arrivals[arrival.room_id]
        arrival.step(Coming.STARTED)
        if self._node.rooms.get(arrival.room_id) is placed:
            await self._node.start(placed, item, own_revision=own_revision)

    def _drop(self, arrival: _Arrival) -> None:
        logger.info("arrival_dropped", extra={"room": arrival.room_id})
        del self._arrivals[arrival.room_id]
        arrival.step(Coming.DROPPED)
        if arrival.placed is not None:
            self._node.drop(arrival.placed)

    def _known(self, room_id: str, name: str) -> _Arrival:
        arrival = self._arrivals.get(room_id)
        if arrival is None or arrival.transfer != name:
            raise _unknown()
        return arrival


def _unknown() -> errors.FailedPrecondition:
    return errors.FailedPrecondition("TRANSFER_UNKNOWN", "no place is kept for the room")


def _catch_up(placed: Placed, request: transfer.StartRoomRequest) -> None:
    """In the table's task: what happened to the room's players while it stood still."""
    room, table = placed.room, placed.runner.table
    if room.ended is not None:
        return
    if room.still is not None:
        raise ROOM_MOVING  # an earlier call is at it; what this one brings must not be lost
    seating.catch_up(table, room, request.inputs)
    for seat in request.left:
        if room.book.generation(seat.slot) == seat.generation:
            seating.leave(table, room, seat.slot, "LEFT")


def _owner(value: bytes) -> Owner | None:
    try:
        record = events_pb2.OwnRecord.FromString(value)
    except DecodeError:
        return None
    return Owner(f"{record.node_id}|{record.incarnation}", record.epoch, record.transfer)
