"""Rooms of dead nodes go on elsewhere (docs/recovery.md).

    claim a slot (state M) ▸ move `own` with epoch + 1 ▸ finish a stored result, else RestoreRoom ▸
    confirm ▸ fact `room.migrated`

From the second step on the old process cannot write. Each step finds what an earlier run left, so
it may stop anywhere: a claim in state M whose time is over is taken up again by the next sweep, an
`own` of a dead place by the next scan. A room that no node can take waits, then is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from rallypoint.fleet.claims import Claims, Unbuilt
from rallypoint.fleet.config import Settings
from rallypoint.fleet.domain import placement
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.fleet.farewell import Farewell
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.internal.v1 import events_pb2, room_host_pb2, snapshot_pb2
from rallypoint.kit import bus_wire, errors, metrics, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId, SetName

logger = logging.getLogger(__name__)

NODE_DIED = "NODE_DIED"
AT_ONCE = 16
_STEPS = 8
_NOWHERE = {"SNAPSHOT_MISSING", "SNAPSHOT_MALFORMED", "ROOM_ENDED", "GAME_ERROR"}
"""Reasons that another node would give too."""
_UNFIT = {"SNAPSHOT_LAYOUT", "GAME_UNKNOWN"}
"""Reasons of this node's version: another one may have the other."""
_TRANSIENT = (errors.Unavailable, errors.DeadlineExceeded)


class NoRoom(errors.ResourceExhausted):
    """No node can take the room now."""


@dataclass(slots=True)
class _Move:
    """One room on its way."""

    own: Own
    game: str
    epoch: int
    replace: Claim | None
    failed: set[str] = field(default_factory=set)
    unfit: str = ""
    """Why the last node whose version cannot take the room said no."""


class Recovery:
    """Moves rooms; any number of fleet processes may do so side by side."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        claims: Claims,
        ownership: Ownership,
        hosts: Hosts,
        registry: Registry,
        farewell: Farewell,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._kv = bus.kv(subjects.OWNERS.name)
        self._claims = claims
        self._ownership = ownership
        self._hosts = hosts
        self._registry = registry
        self._farewell = farewell
        self._clock = clock
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._waiting: dict[RoomId, float] = {}
        """Rooms that found no place, with the time at which they are given up."""

    async def all(self, lost: Iterable[tuple[Own, Claim | None]]) -> None:
        """Move rooms, several at once; raises the first error after all were tried."""
        tries = [self._one(own, claim) for own, claim in lost]
        problems = [
            problem
            for problem in await asyncio.gather(*tries, return_exceptions=True)
            if isinstance(problem, BaseException)
        ]
        if problems:
            raise problems[0]

    async def resume(self, room_id: RoomId, set_name: SetName, claim: Claim) -> None:
        """Take up a move that somebody began and did not end."""
        own = await self._ownership.get(room_id)
        if own is None or own.epoch > claim.epoch:
            await self._claims.release(set_name, room_id, max_epoch=claim.epoch, place=claim.place)
        else:
            await self._one(own, None)

    async def retry(self) -> None:
        """Try rooms again that found no place."""
        for room_id in list(self._waiting):
            own = await self._ownership.get(room_id)
            if own is None:
                self._waiting.pop(room_id, None)  # another try may have ended meanwhile
            else:
                await self._one(own, None)

    async def rebuild(self, set_name: SetName) -> None:
        """Take in the rooms of living nodes as claims, after Redis came back without them."""
        rooms = [
            (own.room_id, own.place, own.epoch)
            for own in await self._ownership.all()
            if own.set_name == set_name and self._registry.find_place(own.place)
        ]
        taken = await self._claims.adopt(set_name, rooms)
        logger.info("claims_rebuilt", extra={"set": set_name, "rooms": taken})

    async def _one(self, own: Own, claim: Claim | None) -> None:
        began = self._clock.monotonic()
        async with self._at_once:
            try:
                moved = await self._move(own, claim)
            except NoRoom as reason:
                await self._wait(own, reason)
                return
            except errors.RallypointError:
                # A broker is away. `own` may name the next node by now, so no scan finds the room.
                self._waiting[own.room_id] = began + self._settings.recovery_wait_s
                raise
        self._waiting.pop(own.room_id, None)
        if moved:
            metrics.FLEET_ROOMS_RECOVERED.inc()
            metrics.FLEET_RECOVERY_SECONDS.observe(self._clock.monotonic() - began)

    async def _wait(self, own: Own, reason: NoRoom) -> None:
        now = self._clock.monotonic()
        until = self._waiting.setdefault(own.room_id, now + self._settings.recovery_wait_s)
        if now >= until:
            del self._waiting[own.room_id]
            if (newest := await self._ownership.get(own.room_id)) is not None:
                await self._farewell.lose(newest, reason.reason)
        else:
            logger.info("recovery_waits", extra={"room": own.room_id, "reason": str(reason)})

    async def _move(self, own: Own, claim: Claim | None) -> bool:
        """Have a room go on at another node; False when it did not need to, or is lost."""
        game, problem = await self._game(own)
        if problem:
            return await self._without_snapshot(own, problem)
        move = _Move(own, game, own.epoch + 1, claim)
        for _ in range(_STEPS):
            placed = await self._placed(move)
            if placed is None:
                return False
            node, held, mine = placed
            if await self._farewell.finish(mine):
                return False
            try:
                await self._restore(node, mine)
            except errors.RallypointError as error:
                if error.reason in _NOWHERE or isinstance(error, errors.InvalidArgument):
                    await self._farewell.lose(mine, error.reason)
                    return False
                if error.reason == bus_wire.UNAVAILABLE:
                    raise  # it is not the node's fault, and another one could not store it either
                self._failed(move, node, held, error)
                continue
            return await self._settled(own, mine, held)
        raise NoRoom("NODE_UNREACHABLE", "no node tried took the room")

    async def _without_snapshot(self, own: Own, problem: str) -> bool:
        """Nothing to go on with: its result may be stored, else it is lost."""
        if not await self._farewell.finish(own):
            await self._farewell.lose(own, problem)
        return False

    async def _placed(self, move: _Move) -> tuple[Node, Claim, Own] | None:
        """Claim a slot and move `own` there; None when somebody else has the room."""
        own = move.own
        for _ in range(_STEPS):
            held = await self._claimed(move)
            if held is None or held.state != "M":
                return None  # an Allocate is at it, or another fleet has done it
            node = self._registry.find_place(held.place)
            if node is None or held.place in move.failed:
                move.replace = held
                continue
            mine = await self._ownership.settle(own.room_id, node, held.epoch)
            if (mine.place, mine.epoch) == (held.place, held.epoch):
                return node, held, mine
            await self._claims.release(
                own.set_name, own.room_id, max_epoch=held.epoch, place=held.place
            )
            return None
        raise NoRoom("ALLOCATION_CONTENDED", "the room's placement changes too often")

    async def _claimed(self, move: _Move) -> Claim | None:
        own = move.own
        nodes = self._registry.usable(own.set_name, move.game, self._clock.monotonic())
        used = await self._claims.used(own.set_name)
        ranked = placement.rank(nodes, used, exclude=move.failed)
        try:
            taken = await self._claims.take(
                own.set_name,
                own.room_id,
                epoch=move.epoch,
                candidates=[(node.place, node.capacity) for node in ranked],
                replace=move.replace,
                moving=True,
            )
        except Unbuilt:
            await self.rebuild(own.set_name)
            return await self._claimed(move)
        if taken.claim is None:
            reason = move.unfit or "FLEET_FULL"
            raise NoRoom(reason, "no node has a slot for the room")
        if taken.claim.state == "R" and self._registry.find_place(taken.claim.place) is None:
            move.replace = taken.claim
            return await self._claimed(move)
        if taken.is_new:
            await self._claims.bind(own.room_id, own.set_name, epoch=taken.claim.epoch)
        return taken.claim

    async def _game(self, own: Own) -> tuple[str, str]:
        """The game of a room's snapshot, and why there is none."""
        entry = await self._kv.get(subjects.snapshot(own.room_id))
        if entry is None or entry.value is None:
            return "", "SNAPSHOT_MISSING"
        try:
            return snapshot_pb2.RoomSnapshot.FromString(entry.value).game, ""
        except DecodeError:
            return "", "SNAPSHOT_MALFORMED"

    async def _restore(self, node: Node, mine: Own) -> None:
        await self._hosts.restore(
            node,
            room_host_pb2.RestoreRoomRequest(
                room_id=mine.room_id, epoch=mine.epoch, own_revision=mine.revision
            ),
            timeout_s=self._settings.create_timeout_s,
        )

    def _failed(self, move: _Move, node: Node, held: Claim, error: errors.RallypointError) -> None:
        """Note that a node did not take the room; should it have, its next write is fenced."""
        logger.warning(
            "restore_failed",
            extra={"room": move.own.room_id, "node": node.node_id, "reason": str(error)},
        )
        move.failed.add(held.place)
        move.replace = held
        if error.reason in _UNFIT:
            move.unfit = error.reason
        if isinstance(error, _TRANSIENT):
            self._registry.suspect(node, self._clock.monotonic())

    async def _settled(self, own: Own, mine: Own, held: Claim) -> bool:
        await self._claims.confirm(own.set_name, own.room_id, held)
        fact = events_pb2.RoomFact(
            room_id=own.room_id,
            event=events_pb2.ROOM_EVENT_MIGRATED,
            node_id=held.node_id,
            epoch=mine.epoch,
            reason=NODE_DIED,
            set=own.set_name,
        )
        await self._bus.publish_fact(
            subjects.room("migrated", own.room_id),
            fact.SerializeToString(),
            msg_id=f"migrated.{own.room_id}.{mine.epoch}",
        )
        logger.warning(
            "room_recovered",
            extra={"room": own.room_id, "node": held.node_id, "epoch": mine.epoch},
        )
        return True
