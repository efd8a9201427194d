"""The end of a room, in the order that loses nothing (decisions §7).

    write `result.<room>` under the fence of `own.<room>` ▸ publish it to `result.<queue>` with the
    match as message id ▸ tell the players ▸ fact `room.closed` ▸ purge the room's keys, but for the
    result, which stays a minute: should this process die now, gateways tell the players

A room without a result purges its snapshot first, under the same fence. Each step is repeated until
the broker has acknowledged it; ticks never wait for it. Players wait for the first two at most
`wait_s`, then they are told anyway. A lost fence means that the room was given to another node
meanwhile: then this node's end of it counts nothing, and players are told that it has MOVED.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.games.engine import Ended
from rallypoint.games.room import SeatState
from rallypoint.internal.v1 import events_pb2
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors, metrics, subjects, telemetry
from rallypoint.kit.bus import Bus, Conflict, Fence
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import QueueName, RoomId
from rallypoint.room_state.facts import RoomFacts
from rallypoint.room_state.hosted import SUPERSEDED, HostedRoom
from rallypoint.v1 import room_pb2

logger = logging.getLogger(__name__)

RETRY_S: Final = 0.2
RETRY_MAX_S: Final = 5.0


class Closer:
    """Ends rooms; one task per room calls `close`."""

    def __init__(self, bus: Bus, facts: RoomFacts, *, clock: Clock, wait_s: float) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.OWNERS.name)
        self._facts = facts
        self._clock = clock
        self._wait_s = wait_s

    async def close(self, room: HostedRoom, ended: Ended) -> None:
        """Everything that follows after a room's last frame."""
        if ended.reason == SUPERSEDED:
            announce(room, _moved())
            return
        with telemetry.span("close room", parent=room.identity.trace):
            result = match_result(room, ended)
            fact = self._result_fact(room, result) if result else None
            if await self._finish(room, ended, fact):
                await self._tidy(room, ended.reason, fact)

    def _result_fact(self, room: HostedRoom, result: room_pb2.MatchResult) -> events_pb2.ResultFact:
        end_time = Timestamp()
        end_time.FromNanoseconds(int(self._clock.now() * 1e9))
        identity = room.identity
        return events_pb2.ResultFact(
            result=result, queue=identity.queue, epoch=identity.epoch, end_time=end_time
        )

    async def _finish(
        self, room: HostedRoom, ended: Ended, fact: events_pb2.ResultFact | None
    ) -> bool:
        """Store the result and tell the players; False when the room is not ours any more."""
        closed = _closed(ended.reason, fact.result if fact else None)
        told = False

        def tell(control: room_pb2.Control) -> None:
            nonlocal told
            told = True
            announce(room, control)

        timer = asyncio.get_running_loop().call_later(self._wait_s, tell, closed)
        try:
            ours = await (self._store(room, fact) if fact else self._forget(room))
        finally:
            timer.cancel()
        if not told:
            tell(closed if ours else _moved())
        return ours

    async def _forget(self, room: HostedRoom) -> bool:
        """Purge the snapshot, so that nobody goes on with it; False if the fence is lost."""
        if not (fence := self._fence(room)):
            return True
        key = subjects.snapshot(RoomId(room.identity.room_id))
        try:
            async with room.storing:
                await _until_acked(lambda: self._kv.purge(key, fence=fence))
        except Conflict:
            logger.warning("end_fenced", extra={"room": room.identity.room_id})
            return False
        return True

    def _fence(self, room: HostedRoom) -> Fence | None:
        identity = room.identity
        own = subjects.own(RoomId(identity.room_id))
        return self._kv.fence(own, identity.own_revision) if identity.own_revision else None

    async def _store(self, room: HostedRoom, fact: events_pb2.ResultFact) -> bool:
        """Write and publish until acknowledged; False when the fence is lost."""
        identity, data = room.identity, fact.SerializeToString()
        key = subjects.result_key(RoomId(identity.room_id))
        fence = self._fence(room)
        try:
            await _until_acked(lambda: self._kv.put(key, data, fence=fence))
        except Conflict:
            metrics.ROOM_RESULTS.labels("fenced").inc()
            logger.warning("result_fenced", extra={"room": identity.room_id})
            return False
        if identity.queue:
            subject = subjects.result(QueueName(identity.queue))
            await _until_acked(
                lambda: self._bus.publish_fact(subject, data, msg_id=fact.result.match_id)
            )
        metrics.ROOM_RESULTS.labels("stored").inc()
        return True

    async def _tidy(
        self, room: HostedRoom, reason: str, result: events_pb2.ResultFact | None
    ) -> None:
        """Say that the room is over, then remove its keys: what is left of `own` is ours alone."""
        identity = room.identity
        fact = self._facts.fact(identity, events_pb2.ROOM_EVENT_CLOSED)
        fact.reason = reason
        await _until_acked(lambda: self._facts.publish(fact))
        room_id, fence = RoomId(identity.room_id), self._fence(room)
        # Without a result the snapshot is purged already.
        keys = [subjects.snapshot(room_id)] if result is not None else []
        if identity.shown:
            keys.append(subjects.info(room_id))
        if identity.open:
            keys.append(subjects.code(identity.code))
        if room.wished:
            keys.append(subjects.fill(QueueName(identity.queue), room_id))
        revision = identity.own_revision
        try:
            async with room.storing:
                for key in keys:
                    await _until_acked(functools.partial(self._kv.purge, key, fence=fence))
            if result is not None:
                await _until_acked(lambda: self._keep(room_id, result, fence))
            if revision:
                own = subjects.own(room_id)
                await _until_acked(lambda: self._kv.purge(own, revision=revision))
        except Conflict:
            logger.info("own_moved", extra={"room": identity.room_id})

    async def _keep(
        self, room_id: RoomId, result: events_pb2.ResultFact, fence: Fence | None
    ) -> None:
        key, kept_s = subjects.result_key(room_id), subjects.RESULT_KEPT_S
        await self._kv.put(key, result.SerializeToString(), ttl_s=kept_s, fence=fence)


def announce(room: HostedRoom, control: room_pb2.Control) -> None:
    """Tell all of a room's clients, and forget them."""
    if room.tape is not None and control.kind == room_pb2.CONTROL_KIND_CLOSED:
        room.tape.end(control)
    elif room.tape is not None:
        room.tape.cut()
    for link, clients in list(room.clients()):
        told = host.RoomControl(room_id=room.identity.room_id, clients=clients, control=control)
        link.say(host.AttachResponse(controls=[told]))
    for slot in list(room.streams):
        room.unseat(slot)


def match_result(room: HostedRoom, ended: Ended) -> room_pb2.MatchResult | None:
    """The outcome as everybody else knows it; None for a room that ended without one."""
    if ended.outcome is None:
        return None
    seats = {seat.slot: seat for seat in room.book.seats()}
    placements = [
        room_pb2.Placement(
            slot=placement.slot,
            player_id=seats[placement.slot].player_id,
            rank=placement.rank,
            score=placement.score,
            team=seats[placement.slot].team,
            left_early=room.book.state(placement.slot) is SeatState.LEFT,
        )
        for placement in ended.outcome.placements
        if placement.slot in seats
    ]
    return room_pb2.MatchResult(
        match_id=room.identity.room_id,
        placements=placements,
        # Whom the clock happened to remove last is no winner of a match that nobody came to.
        rated=ended.outcome.rated and room.book.visited,
    )


def _moved() -> room_pb2.Control:
    """Gateways look for the room's next node, and keep their clients' streams."""
    return room_pb2.Control(kind=room_pb2.CONTROL_KIND_MOVED, reason=SUPERSEDED)


def _closed(reason: str, result: room_pb2.MatchResult | None) -> room_pb2.Control:
    return room_pb2.Control(
        kind=room_pb2.CONTROL_KIND_CLOSED, reason=reason or "FINISHED", result=result
    )


async def _until_acked(step: Callable[[], Awaitable[object]]) -> None:
    """Repeat a step that may be repeated, until it succeeds or its fence is lost."""
    wait_s = RETRY_S
    while True:
        try:
            await step()
            return
        except Conflict:
            raise
        except errors.RallypointError as error:
            metrics.ROOM_RESULTS.labels("retried").inc()
            logger.info("room_close_waits", extra={"reason": str(error)})
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)
