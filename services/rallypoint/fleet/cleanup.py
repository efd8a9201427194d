"""What gives slots back: expired claims, closed rooms, dead nodes, and the regular comparison.

Everything here may run in several processes at once and may stop anywhere: each step is idempotent
and the next sweep or scan finds what is left. What becomes of a dead node's rooms: `recovery`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from google.protobuf.message import DecodeError

from rallypoint.fleet.claims import Claims, Unbuilt
from rallypoint.fleet.codes import Codes
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.fleet.recovery import NODE_DIED, Recovery
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import bus_work, errors, metrics, names, subjects, telemetry
from rallypoint.kit.bus import Bus, Fact
from rallypoint.kit.names import RoomId, SetName

logger = logging.getLogger(__name__)

ABANDONED = "ALLOCATION_ABANDONED"
RELEASED = "RELEASED"
_DURABLE = "fleet-closed"
_REMEMBERED = 1000
_LOOK_FOR_SETS = 10
"""Sweeps between two looks at which sets were ever used: those of living nodes are known."""

_Gone = Callable[[str], bool]
"""Tells whether the process of a place is gone."""


class Cleanup:
    """Gives back what nobody holds any more."""

    def __init__(
        self,
        *,
        bus: Bus,
        claims: Claims,
        ownership: Ownership,
        codes: Codes,
        hosts: Hosts,
        registry: Registry,
        recovery: Recovery,
    ) -> None:
        self._recovery = recovery
        self._bus = bus
        self._claims = claims
        self._ownership = ownership
        self._codes = codes
        self._hosts = hosts
        self._registry = registry
        self._lost_at: dict[str, dict[RoomId, int]] = {}
        self._sweeps = 0
        self._known: list[SetName] = []

    async def sweep(self) -> None:
        """Free claims whose time is over; rebuild the claims of a set that Redis lost."""
        if not self._sweeps % _LOOK_FOR_SETS:
            self._known = await self._claims.sets()
        self._sweeps += 1
        for set_name in self._living(self._known):
            for room_id, claim in await self._expired(set_name):
                if claim.state == "M":
                    await self._recovery.resume(room_id, set_name, claim)
                    continue
                metrics.FLEET_CLAIMS_EXPIRED.inc()
                await self._dismantle(set_name, room_id, claim, ABANDONED)
        await self._close_revived()
        await self._recovery.retry()

    async def _expired(self, set_name: SetName) -> list[tuple[RoomId, Claim]]:
        try:
            return await self._claims.expired(set_name)
        except Unbuilt:
            await self._recovery.rebuild(set_name)
            return await self._claims.expired(set_name)

    async def _close_revived(self) -> None:
        """Close what a frozen process still runs after it was given up and came back."""
        for place in tuple(self._lost_at):
            node = self._registry.find_place(place)
            if node is not None:
                await self._close_lost(node, self._lost_at[place])
                if not self._lost_at[place]:
                    del self._lost_at[place]
            elif len(self._lost_at) > _REMEMBERED:
                del self._lost_at[place]

    async def _close_lost(self, node: Node, rooms: dict[RoomId, int]) -> None:
        """Close what a node lost; what it does not close now is tried with the next sweep."""
        for room_id, epoch in list(rooms.items()):
            try:
                await self._hosts.close_room(node, room_id, NODE_DIED, max_epoch=epoch)
            except errors.RallypointError as error:
                logger.info("close_waits", extra={"room": room_id, "reason": str(error)})
            else:
                del rooms[room_id]

    async def _sets(self) -> list[SetName]:
        return self._living(await self._claims.sets())

    def _living(self, known: Iterable[SetName]) -> list[SetName]:
        """Sets that were ever used, and those of the nodes that live."""
        return sorted({*map(SetName, self._registry.sets()), *known})

    async def release(self, set_name: SetName, room_id: RoomId) -> None:
        """Give a room's slot back and see that no room and no owner are left. Idempotent."""
        claim = await self._claims.closing(set_name, room_id)
        if claim is not None:
            await self._dismantle(set_name, room_id, claim, RELEASED)

    async def _dismantle(
        self, set_name: SetName, room_id: RoomId, claim: Claim, reason: str
    ) -> None:
        """Close the room if it was made, remove its owner, free the slot, in this order."""
        node = self._registry.find_place(claim.place)
        if node is not None:
            try:
                await self._hosts.close_room(node, room_id, reason, max_epoch=claim.epoch)
            except (errors.Unavailable, errors.DeadlineExceeded) as error:
                # The claim stays marked: the next sweep tries again, or the node dies.
                logger.info("dismantle_waits", extra={"room": room_id, "reason": str(error)})
                return
        own = await self._ownership.get(room_id)
        if own is not None and own.place == claim.place and own.epoch <= claim.epoch:
            await self._ownership.purge(own)
        await self._claims.release(set_name, room_id, max_epoch=claim.epoch, place=claim.place)
        logger.info("claim_dismantled", extra={"room": room_id, "reason": reason})

    async def died(self, node: Node) -> None:
        """Move the rooms of a dead process elsewhere, and free what else it held."""
        logger.warning("node_died", extra={"node": node.node_id, "place": node.place})
        await self._compare(lambda place: place == node.place)

    async def scan(self, *, unknown_is_dead: bool) -> None:
        """The same for dead processes that died before we started, or that we did not finish."""

        def gone(place: str) -> bool:
            if self._registry.find_place(place) is not None:
                return False
            return unknown_is_dead or self._registry.is_dead(place)

        await self._compare(gone)
        await self._codes.sweep()

    async def _compare(self, gone: _Gone) -> None:
        """Move the rooms owned by processes that are gone; free confirmed claims on them.

        A claim not confirmed yet is left to its Allocate, or to its time.
        """
        moves: list[tuple[Own, Claim | None]] = []
        claims = {name: await self._claims.all(name) for name in await self._sets()}
        for own in await self._ownership.all():
            claim = claims.get(own.set_name, {}).pop(own.room_id, None)
            if claim is not None and claim.state == "R" and claim.epoch < own.epoch:
                claim = await self._follow(own)
            if gone(own.place) and not _is_underway(claim):
                self._lost_at.setdefault(own.place, {})[own.room_id] = own.epoch
                moves.append((own, claim))
        await self._recovery.all(moves)
        for set_name, rest in claims.items():
            for room_id, claim in rest.items():
                if gone(claim.place) and not _is_underway(claim):
                    await self._claims.release(
                        set_name, room_id, max_epoch=claim.epoch, place=claim.place
                    )

    async def _follow(self, own: Own) -> Claim:
        """A room has moved (`moving`), and fleet ended before its claim did."""
        await self._claims.follow(own.set_name, own.room_id, own.place, own.epoch)
        node_id, _, incarnation = own.place.partition("|")
        return Claim("R", node_id, incarnation, own.epoch)

    async def follow_closed(self) -> None:
        """Free the slot of each room that closed; runs for ever."""
        closed = self._bus.work(subjects.ROOMS.name, subjects.rooms_of("closed"), durable=_DURABLE)
        await bus_work.each(closed, self._closed)

    async def _closed(self, received: Sequence[Fact]) -> None:
        facts = [_room_fact(one) for one in received]
        sources = [one.headers for one in received]
        with telemetry.span("process room.closed", kind="consumer", links=sources):
            await self._claims.release_many(
                [(SetName(fact.set), RoomId(fact.room_id), fact.epoch) for fact in facts]
            )


def _room_fact(received: Fact) -> events_pb2.RoomFact:
    """Return what a fact says; InvalidArgument when it cannot be read."""
    try:
        fact = events_pb2.RoomFact.FromString(received.data)
    except DecodeError as error:
        raise errors.InvalidArgument("FACT_MALFORMED", "it is no RoomFact") from error
    names.check_name(fact.set, "the set")
    return fact


def _is_underway(claim: Claim | None) -> bool:
    return claim is not None and claim.state in ("C", "X")
