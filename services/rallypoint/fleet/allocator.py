"""Allocate: bind ▸ claim ▸ create `own` ▸ CreateRoom ▸ confirm ▸ reply (decisions §2).

Each step finds what an earlier try of the same request left, so a retry only does what is missing,
and always calls CreateRoom again. A node that fails costs its claim: the next one is claimed anew
with a higher epoch, which fences whatever the first may still have made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rallypoint.fleet.batching import Batcher, Later
from rallypoint.fleet.claiming import Claiming, Kind
from rallypoint.fleet.claims import Binding, Claims, Confirmation, Taken, Unbuilt, Wish
from rallypoint.fleet.codes import Codes
from rallypoint.fleet.config import Settings
from rallypoint.fleet.domain import placement
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.nodes import Node, Registry, Selector
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.ownership import Own, Ownership
from rallypoint.internal.v1 import allocation_pb2, room_host_pb2
from rallypoint.kit import errors, names
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId, SetName

logger = logging.getLogger(__name__)

Rebuild = Callable[[SetName], Awaitable[None]]
"""Takes the rooms of a set in as claims, after Redis came back without them."""

_FINAL = {"GAME_ERROR", "ROOM_ENDED", "LATE_JOIN_OFF"}
"""Reasons that another node would give too."""
_STEPS = 6
_MOST_SELECTORS = 8
_MOST_WAIT_MS = 60_000
_MOST_PARKED = 256
_PARKED_S = 0.25
FULL = "FLEET_FULL"
_BOUNDLESS = 1 << 30
MOVED = "ROOM_MOVED"
"""Why a room is closed on a node that was given up."""


@dataclass(frozen=True, slots=True)
class Place:
    """A claimed slot whose room has its owner written."""

    node: Node
    claim: Claim
    own: Own


@dataclass(slots=True)
class _Request:
    """One call on its way: what it asks and what it has learnt."""

    room_id: RoomId
    set_name: SetName
    message: allocation_pb2.AllocateRequest
    kind: Kind
    epoch: int
    given: int
    """The highest epoch that is remembered as given, so that no later try has it again."""
    replace: Claim | None
    failed: set[str]
    code: str = ""


class Allocator:
    """Places rooms. Stateless: any number of processes may run it side by side."""

    def __init__(
        self,
        settings: Settings,
        *,
        claims: Claims,
        ownership: Ownership,
        codes: Codes,
        hosts: Hosts,
        registry: Registry,
        clock: Clock,
        later: Later,
        rebuild: Rebuild,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._claiming = Claiming(claims, registry, clock, later=later)
        self._bind = Batcher(claims.bind_many, later=later, name="claims.bind")
        self._confirm = Batcher(claims.confirm_many, later=later, name="claims.confirm")
        self._unmet = Batcher(claims.note_unmet, later=later, name="claims.unmet")
        self._parked = 0
        self._ownership = ownership
        self._codes = codes
        self._hosts = hosts
        self._registry = registry
        self._clock = clock
        self._later = later
        self._rebuild = Batcher(_once_each(rebuild), later=later, name="claims.rebuild")

    async def allocate(
        self, message: allocation_pb2.AllocateRequest
    ) -> allocation_pb2.AllocateResponse:
        """Place the room of a request; see AllocationService.Allocate for the errors."""
        request = await self._begin(message)
        until = self._clock.monotonic() + message.wait_ms / 1000
        while True:
            try:
                return await self._once(request)
            except errors.ResourceExhausted as error:
                if error.reason != FULL:
                    raise
                if self._would_more_help(request.kind):
                    with contextlib.suppress(errors.Unavailable):
                        await self._unmet(Binding(request.room_id, request.set_name))
                if self._clock.monotonic() >= until:
                    raise
                await self._park(error)

    async def _park(self, error: errors.ResourceExhausted) -> None:
        """Wait a moment for a slot, unless too many do."""
        if self._parked >= _MOST_PARKED:
            raise error
        self._parked += 1
        try:
            await asyncio.sleep(_PARKED_S)
        finally:
            self._parked -= 1

    async def _once(self, request: _Request) -> allocation_pb2.AllocateResponse:
        for _ in range(self._settings.node_tries):
            place = await self._placed(request)
            try:
                made = await self._create(request, place)
            except errors.RallypointError as error:
                if not _may_work_elsewhere(error):
                    await self._give_up(place)
                    raise
                self._failed(request, place, error)
                continue
            if not await self._confirm(
                Confirmation(request.set_name, request.room_id, place.claim)
            ):
                raise errors.Unavailable(
                    "CLAIM_LOST", "the claim moved meanwhile; try again", retry_after_s=0.1
                )
            return allocation_pb2.AllocateResponse(
                room_id=request.room_id,
                node_id=place.node.node_id,
                epoch=place.claim.epoch,
                seats=made.seats,
                code=place.own.code,
            )
        await self._give_up(place)
        raise _unreachable()

    async def _begin(self, message: allocation_pb2.AllocateRequest) -> _Request:
        room_id = RoomId(names.check_id(message.request_id, "request_id"))
        set_name = SetName(names.check_name(message.set, "set"))
        names.check_name(message.game, "game")
        kind = _kind(message, set_name)
        bound = await self._bind(Binding(room_id, set_name, next_too=True))
        if bound.set_name != set_name:
            raise errors.FailedPrecondition(
                "REQUEST_BOUND", f"the request belongs to set {bound.set_name}"
            )
        return _Request(
            room_id, set_name, message, kind, bound.epoch, bound.epoch, replace=None, failed=set()
        )

    async def _create(self, request: _Request, place: Place) -> room_host_pb2.CreateRoomResponse:
        wanted = room_host_pb2.CreateRoomRequest(
            room_id=request.room_id,
            epoch=place.claim.epoch,
            game=request.message.game,
            queue=request.message.queue,
            players=request.message.players,
            options=request.message.options,
            own_revision=place.own.revision,
            set=request.set_name,
        )
        if request.message.HasField("recording"):
            wanted.recording.CopyFrom(request.message.recording)
        if request.message.HasField("open"):
            wanted.open.CopyFrom(request.message.open)
            wanted.open.code = place.own.code
        return await self._hosts.create(
            place.node, wanted, timeout_s=self._settings.create_timeout_s
        )

    async def _placed(self, request: _Request) -> Place:
        """Claim a slot and write its owner, or find both as an earlier try left them."""
        for _ in range(_STEPS):
            try:
                claim = await self._claimed(request)
            except Unbuilt:
                await self._rebuild(request.set_name)
                continue
            node = self._registry.find_place(claim.place)
            if node is None or claim.place in request.failed:
                request.replace = claim
                continue
            if request.message.HasField("open") and not request.code:
                request.code = await self._codes.reserve(request.room_id)
            own = await self._ownership.settle(
                request.room_id, node, claim.epoch, code=request.code, is_new=claim.epoch == 1
            )
            if (own.place, own.epoch) == (claim.place, claim.epoch):
                return Place(node, claim, own)
            await self._catch_up(request, claim, own)
        raise errors.Unavailable(
            "ALLOCATION_CONTENDED", "the room's placement changes too often", retry_after_s=0.5
        )

    async def _claimed(self, request: _Request) -> Claim:
        taken = await self._taken(request)
        if taken.claim is None:
            raise self._refusal(request)
        if taken.claim.state == "M":
            raise errors.Unavailable("ROOM_MOVING", "the room's node died", retry_after_s=1.0)
        if taken.claim.state == "X":
            raise errors.Unavailable(
                "ROOM_CLOSING", "an earlier try is being cleaned up", retry_after_s=1.0
            )
        if taken.is_new and taken.claim.epoch > request.given:
            await self._bind(Binding(request.room_id, request.set_name, taken.claim.epoch))
            request.given = taken.claim.epoch
        return taken.claim

    async def _taken(self, request: _Request) -> Taken:
        if request.replace is None and not request.failed:
            return await self._claiming.take(request.kind, Wish(request.room_id, request.epoch))
        return await self._claims.take(
            request.set_name,
            request.room_id,
            epoch=request.epoch,
            candidates=await self._others(request),
            replace=request.replace,
        )

    async def _others(self, request: _Request) -> list[tuple[str, int]]:
        """What is left to try, after some nodes failed the request, best first."""
        nodes = self._usable(request)
        used = await self._claims.used(request.set_name)
        ranked = placement.rank(nodes, used, exclude=request.failed)
        return [(node.place, node.capacity) for node in ranked]

    def _usable(self, request: _Request) -> list[Node]:
        """The nodes that meet what is asked for, those of the first wish first."""
        kind, now = request.kind, self._clock.monotonic()
        nodes = self._registry.usable(kind.set_name, kind.game, now)
        if not kind.selectors:
            return nodes
        return [node for node in nodes if any(one.meets(node) for one in kind.selectors)]

    def _would_more_help(self, kind: Kind) -> bool:
        """Not where there are servers and none serves the game: a queue that names a wrong one
        would have its set grow to the maximum."""
        now = self._clock.monotonic()
        there = self._registry.usable(kind.set_name, "", now)
        return not there or bool(self._registry.usable(kind.set_name, kind.game, now))

    def _refusal(self, request: _Request) -> errors.RallypointError:
        nodes = self._usable(request)
        if request.failed and all(node.place in request.failed for node in nodes):
            return _unreachable()
        if not nodes and request.kind.selectors:
            return errors.ResourceExhausted(
                "FLEET_UNMATCHED",
                f"set {request.set_name} has no node that meets the selectors",
                retry_after_s=5.0,
            )
        return _full(request)

    async def _catch_up(self, request: _Request, claim: Claim, own: Own) -> None:
        """The owner is ahead of the claim, since Redis forgot: follow it, or go above it."""
        if self._registry.find_place(own.place) and own.place not in request.failed:
            await self._claims.take(
                request.set_name,
                request.room_id,
                epoch=own.epoch,
                candidates=[(own.place, _BOUNDLESS)],
                replace=claim,
                exact=True,
            )
        else:
            request.epoch = own.epoch + 1
            request.replace = claim

    def _failed(self, request: _Request, place: Place, error: errors.RallypointError) -> None:
        """Note that a node did not make the room; it may have, so it is told to close it."""
        logger.warning(
            "create_room_failed",
            extra={"room": request.room_id, "node": place.node.node_id, "reason": str(error)},
        )
        request.failed.add(place.claim.place)
        request.replace = place.claim
        if isinstance(error, errors.Unavailable | errors.DeadlineExceeded):
            self._registry.suspect(place.node, self._clock.monotonic())
            self._later(self._close_quietly(place), f"close.{request.room_id}")

    async def _close_quietly(self, place: Place) -> None:
        room_id = place.own.room_id
        try:
            await self._hosts.close_room(place.node, room_id, MOVED, max_epoch=place.claim.epoch)
        except errors.RallypointError as error:
            logger.info("close_failed", extra={"room": room_id, "reason": str(error)})

    async def _give_up(self, place: Place) -> None:
        """Free what was taken; should that fail, the claim's time does it."""
        try:
            await self._claims.release(
                place.own.set_name,
                place.own.room_id,
                max_epoch=place.claim.epoch,
                place=place.claim.place,
            )
            await self._ownership.purge(place.own)
        except errors.RallypointError as error:
            logger.info("give_up_failed", extra={"reason": str(error)})


def _may_work_elsewhere(error: errors.RallypointError) -> bool:
    return not isinstance(error, errors.InvalidArgument) and error.reason not in _FINAL


def _unreachable() -> errors.Unavailable:
    return errors.Unavailable("NODE_UNREACHABLE", "no node tried made the room", retry_after_s=1.0)


def _once_each(rebuild: Rebuild) -> Callable[[Sequence[SetName]], Awaitable[Sequence[None]]]:
    """A rebuild lists everything that is owned: all who need it of a set share one."""

    async def rebuild_all(wanted: Sequence[SetName]) -> Sequence[None]:
        for set_name in dict.fromkeys(wanted):
            await rebuild(set_name)
        return [None] * len(wanted)

    return rebuild_all


def _kind(message: allocation_pb2.AllocateRequest, set_name: SetName) -> Kind:
    if len(message.selectors) > _MOST_SELECTORS or message.wait_ms > _MOST_WAIT_MS:
        raise errors.InvalidArgument(
            "SELECTION_INVALID", f"at most {_MOST_SELECTORS} selectors and {_MOST_WAIT_MS} ms"
        )
    wishes = [Selector(frozenset(one.match_labels.items())) for one in message.selectors]
    spread = message.spread == allocation_pb2.SPREAD_DISTRIBUTED
    return Kind(set_name, message.game, tuple(wishes), spread=spread)


def _full(request: _Request) -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        FULL,
        f"set {request.set_name} has no free slot for game {request.message.game}",
        retry_after_s=1.0,
    )
