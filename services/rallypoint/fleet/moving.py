"""Moving rooms that are played: fleet picks and claims the target, the room's node does the rest.

    keep a slot at the target ▸ MigrateRoom at the source, which commits by compare-and-set of
    `own.<room>` ▸ the claim follows

The slot is kept as a claim of its own, beside the room's, so a fleet that dies leaves nothing: what
is kept expires, and the regular comparison has claims follow their owners. Fleet never commits, and
after any doubt it reads `own.<room>`: that is where the room is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rallypoint.fleet.claims import Claims
from rallypoint.fleet.config import Settings
from rallypoint.fleet.domain import placement
from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.internal.v1 import room_transfer_pb2 as transfer
from rallypoint.kit import errors, metrics, telemetry
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId

logger = logging.getLogger(__name__)

_ABOUT_THE_ROOM = {
    "ROOM_UNKNOWN", "ROOM_FINISHING", "ROOM_MOVING", "EPOCH_STALE", "ROOM_UNOWNED", "ROOM_ENDED",
    "UNKNOWN",
}  # fmt: skip
"""Refusals that another target would not change; UNKNOWN: a node that cannot move rooms."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a room is now."""

    node_id: str
    epoch: int
    gap_ms: int


class Mover:
    """Moves one room at a time; any number of calls may run side by side."""

    def __init__(
        self,
        settings: Settings,
        *,
        claims: Claims,
        ownership: Ownership,
        hosts: Hosts,
        registry: Registry,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._ownership = ownership
        self._hosts = hosts
        self._registry = registry
        self._clock = clock

    async def move(self, room_id: RoomId, *, to: str = "") -> Moved:
        """Move a room to the node `to`, or to one of its set; see MoveRoom for the errors."""
        own = await self._ownership.get(room_id)
        source = self._registry.find_place(own.place) if own else None
        if own is None or source is None:
            raise errors.NotFound("ROOM_UNKNOWN", "no living node has such a room")
        attributes = {"rallypoint.room": room_id, "rallypoint.node": source.node_id}
        with telemetry.span("move room", attributes=attributes):
            outcome = "OK"
            try:
                return await self._try_targets(own, source, to)
            except errors.RallypointError as error:
                outcome = error.reason
                raise
            finally:
                metrics.FLEET_MOVES.labels(outcome).inc()

    async def _try_targets(self, own: Own, source: Node, to: str) -> Moved:
        failed: set[str] = {source.place}
        problem: errors.RallypointError | None = None
        for _ in range(self._settings.node_tries):
            target = await self._kept(own, to, failed)
            if target is None:
                break
            try:
                return await self._moved(own, source, target)
            except errors.RallypointError as error:
                if error.reason in _ABOUT_THE_ROOM:
                    raise
                problem = error
                failed.add(target.place)
        raise problem or errors.ResourceExhausted(
            "FLEET_FULL", f"no other node of set {own.set_name} has room", retry_after_s=1.0
        )

    async def _kept(self, own: Own, to: str, failed: set[str]) -> Node | None:
        """A target with a slot kept for the room; None when there is none."""
        nodes = self._registry.usable(own.set_name, "", self._clock.monotonic())
        used = await self._claims.used(own.set_name)
        ranked = [
            node for node in placement.rank(nodes, used, exclude=failed) if to in ("", node.node_id)
        ]
        place = await self._claims.keep(
            own.set_name,
            own.room_id,
            epoch=own.epoch + 1,
            candidates=[(node.place, node.capacity) for node in ranked],
        )
        return self._registry.find_place(place) if place else None

    async def _moved(self, own: Own, source: Node, target: Node) -> Moved:
        request = transfer.MigrateRoomRequest(
            room_id=own.room_id,
            epoch=own.epoch,
            node_id=target.node_id,
            incarnation=target.incarnation,
            address=target.address,
        )
        try:
            reply = await self._hosts.migrate(
                source, request, timeout_s=self._settings.move_timeout_s
            )
        except errors.RallypointError as error:
            if not await self._arrived(own, target):
                logger.info(
                    "move_failed",
                    extra={"room": own.room_id, "to": target.node_id, "reason": str(error)},
                )
                raise
            reply = transfer.MigrateRoomResponse(epoch=own.epoch + 1)
        else:
            # Counted here, not at the source: that one may end before anybody reads its metrics.
            metrics.FLEET_MOVE_GAP_SECONDS.observe(reply.gap_ms / 1e3)
        await self.follow(own, target.place, reply.epoch)
        logger.info(
            "room_moved",
            extra={
                "room": own.room_id, "from": source.node_id, "to": target.node_id,
                "gap_ms": reply.gap_ms,
            },
        )  # fmt: skip
        return Moved(target.node_id, reply.epoch, reply.gap_ms)

    async def _arrived(self, own: Own, target: Node) -> bool:
        """Whether the source committed although it could not say so.

        If it did not, the kept slot is given back, unless the source may still commit: then it
        expires.
        """
        now = await self._ownership.get(own.room_id)
        if now is not None and now.place == target.place and now.epoch > own.epoch:
            return True
        if now is None or now.epoch > own.epoch or self._registry.find_place(own.place):
            await self._claims.unkeep(own.set_name, own.room_id, target.place)
        return False

    async def follow(self, own: Own, place: str, epoch: int) -> None:
        """Have the room's claim follow its owner."""
        await self._claims.bind(own.room_id, own.set_name, epoch=epoch)
        await self._claims.follow(own.set_name, own.room_id, place, epoch)
