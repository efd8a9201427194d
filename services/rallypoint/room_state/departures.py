"""Rooms that leave this node while they are played: the source's side of a move.

    Prepare the target (the room plays on) ▸ stop the room, copy it, have gateways hold back ▸
    hand the copy to the target and store it as the last snapshot ▸ commit: `own.<room>` names the
    target, by compare-and-set ▸ tell gateways ▸ start it there, with the inputs that were on their
    way ▸ forget it

The room is stopped right after a frame, and gateways ask the target for their seats while it is
started, so that what players see is little more than the time from one frame to the next.

The order and what may fail where stand in `domain.moving` and docs/migration.md. Whatever ends the
caller, a move goes on to its end: half a move is the one thing that must not be.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rallypoint.games.engine import Ended
from rallypoint.internal.v1 import events_pb2, room_transfer_pb2_grpc
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.internal.v1 import room_transfer_pb2 as transfer
from rallypoint.kit import errors, metrics, names, rpc, subjects, telemetry
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.names import RoomId
from rallypoint.room_state import captured
from rallypoint.room_state.domain.moving import DEPARTURE, Departing, Leaving, step
from rallypoint.room_state.draining import Drain
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import SUPERSEDED

if TYPE_CHECKING:
    from rallypoint.room_state.captured import Captured
    from rallypoint.room_state.node import Node, Spawn
    from rallypoint.room_state.runner import Placed

    Stub = room_transfer_pb2_grpc.RoomTransferServiceAsyncStub

logger = logging.getLogger(__name__)

PREPARE_S: Final = 2.0
HAND_OVER_S: Final = 3.0
START_S: Final = 3.0
RETRY_S: Final = 0.1


@dataclass(slots=True)
class _Move:
    """One move of one room."""

    placed: Placed
    request: transfer.MigrateRoomRequest
    own: bytes
    """`own.<room>` as it was, naming this node."""
    next_own: bytes
    """The same, naming the target and this transfer."""
    transfer: str
    phase: Departing = Departing.PREPARING
    item: Captured | None = None
    stopped_at: float = 0.0

    @property
    def room_id(self) -> str:
        return self.request.room_id

    @property
    def epoch(self) -> int:
        return self.request.epoch + 1

    def step(self, event: Leaving) -> None:
        self.phase = step(DEPARTURE, self.phase, event)


class Departures:
    """Moves rooms away. `links` are the gateways attached here."""

    def __init__(
        self,
        node: Node,
        bus: Bus,
        *,
        drain: Drain,
        links: Callable[[], Iterable[GatewayLink]],
        spawn: Spawn,
    ) -> None:
        self._node = node
        self._drain = drain
        self._kv = bus.kv(subjects.OWNERS.name)
        self._links = links
        self._spawn = spawn
        self._moving: set[str] = set()

    async def migrate(self, request: transfer.MigrateRoomRequest) -> transfer.MigrateRoomResponse:
        """Move a room; raises the reason why it stays."""
        if request.room_id in self._moving:
            raise errors.Aborted("ROOM_MOVING", "the room is being moved")
        self._moving.add(request.room_id)  # before anything is awaited: nobody else may begin
        try:
            placed = await self._movable(request)
        except BaseException:
            self._moving.discard(request.room_id)
            raise
        done: asyncio.Future[transfer.MigrateRoomResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self._spawn(self._settle(placed, request, done), name=f"move.{request.room_id}")
        return await asyncio.shield(done)

    async def _movable(self, request: transfer.MigrateRoomRequest) -> Placed:
        placed = self._node.rooms.get(request.room_id)
        if placed is None or placed.room.ended is not None:
            raise errors.NotFound("ROOM_UNKNOWN", "no such room here")
        if self._node.frozen:
            raise errors.Unavailable("NODE_FROZEN", "the node cannot know whether it has the room")
        room = placed.room
        if room.still is not None:
            raise errors.Aborted("ROOM_MOVING", "the room is being moved")
        if room.identity.epoch != request.epoch:
            raise errors.Aborted("EPOCH_STALE", f"the room's epoch is {room.identity.epoch}")
        if not room.identity.own_revision:
            raise errors.FailedPrecondition("ROOM_UNOWNED", "the room has no record of its owner")
        if self._node.draining and await self._drain.is_finishing(placed):
            raise errors.FailedPrecondition("ROOM_FINISHING", "the game ends its match here")
        return placed

    async def _settle(
        self,
        placed: Placed,
        request: transfer.MigrateRoomRequest,
        done: asyncio.Future[transfer.MigrateRoomResponse],
    ) -> None:
        outcome = "OK"
        try:
            with telemetry.span(
                "migrate room",
                parent=placed.room.identity.trace,
                attributes={"rallypoint.room": request.room_id, "rallypoint.to": request.node_id},
            ):
                reply = await self._run(placed, request)
            done.set_result(reply)
        except errors.RallypointError as error:
            outcome = error.reason
            done.set_exception(error)
            done.exception()  # the caller may have gone
        except Exception as error:
            outcome = "INTERNAL"
            logger.exception("move_failed", extra={"room": request.room_id})
            done.set_exception(errors.Internal("MOVE_FAILED", str(error)))
            done.exception()
        finally:
            self._moving.discard(request.room_id)
            metrics.ROOM_MOVES.labels(outcome).inc()

    async def _run(
        self, placed: Placed, request: transfer.MigrateRoomRequest
    ) -> transfer.MigrateRoomResponse:
        move = await self._begun(placed, request)
        async with rpc.channel(request.address, name="room-state") as channel:
            stub: Stub = room_transfer_pb2_grpc.RoomTransferServiceStub(channel)
            await self._prepare(move, stub)
            move.step(Leaving.PREPARED)
            try:
                revision = await self._handed_over(move, stub)
            except Conflict as conflict:
                move.step(Leaving.FENCED)
                self._lose(move)
                await self._abandon(move, stub)
                raise errors.Aborted("EPOCH_STALE", "the room is another's") from conflict
            except Exception:  # not the end of the process: who is named by the record goes on
                if move.phase is not Departing.STAYS:
                    move.step(Leaving.FAILED)
                await self._stay(move)
                await self._abandon(move, stub)
                raise
            move.step(Leaving.COMMITTED)
            self._tell(move, host.ROOM_MOVE_PHASE_MOVED)
            await self._start(move, stub, revision)
            gap_s = asyncio.get_running_loop().time() - move.stopped_at
            self._leave(move)  # at once: nobody tells the target of what reaches the room now
        logger.info(
            "room_moved",
            extra={"room": move.room_id, "to": request.node_id, "gap_ms": round(gap_s * 1e3, 1)},
        )
        return transfer.MigrateRoomResponse(epoch=move.epoch, gap_ms=round(gap_s * 1e3))

    # --- while the room plays ---

    async def _begun(self, placed: Placed, request: transfer.MigrateRoomRequest) -> _Move:
        """Read the record that will be changed; its revision must be the room's fence."""
        entry = await self._kv.get(subjects.own(RoomId(request.room_id)))
        if entry is None or entry.value is None:
            raise errors.Aborted("EPOCH_STALE", "the room has no owner any more")
        if entry.revision != placed.room.identity.own_revision:
            raise errors.Aborted("EPOCH_STALE", "the room is another's")
        record = events_pb2.OwnRecord.FromString(entry.value)
        record.node_id, record.incarnation = request.node_id, request.incarnation
        record.address, record.epoch = request.address, request.epoch + 1
        record.transfer = names.new_id()
        return _Move(placed, request, entry.value, record.SerializeToString(), record.transfer)

    async def _prepare(self, move: _Move, stub: Stub) -> None:
        room, table = move.placed.room, move.placed.runner.table
        request = transfer.PrepareRoomRequest(
            room_id=move.room_id,
            epoch=move.epoch,
            transfer=move.transfer,
            game=room.identity.game,
            layout=table.layout,
            players=len(room.book.seats()),
        )
        async with rpc.calling():
            await stub.PrepareRoom(request, timeout=PREPARE_S)

    # --- while it stands still ---

    async def _handed_over(self, move: _Move, stub: Stub) -> int:
        """Stop, copy, hand over, commit; the revision of the record that names the target."""
        item = move.item = await move.placed.runner.call(
            functools.partial(self._stop, move), after_frames=True
        )
        data = captured.to_message(item).SerializeToString()
        request = transfer.TransferRoomRequest(
            room_id=move.room_id, epoch=move.epoch, transfer=move.transfer, snapshot=data
        )

        async def send() -> None:
            async with rpc.calling():
                await stub.TransferRoom(request, timeout=HAND_OVER_S)

        # What is committed must be on disk as well, in case the target dies right after.
        storing = self._node.snapshots.store_copy(move.placed, item)
        outcomes = await asyncio.gather(send(), storing, return_exceptions=True)
        for outcome in sorted(
            (o for o in outcomes if isinstance(o, BaseException)),
            key=lambda o: not isinstance(o, Conflict),
        ):
            raise outcome
        move.step(Leaving.HANDED_OVER)
        return await self._commit(move)

    def _stop(self, move: _Move) -> Captured:
        """In the table's task: from here on nothing happens in the room."""
        room = move.placed.room
        if room.ended is not None:
            raise errors.FailedPrecondition("ROOM_ENDED", "the room has ended")
        item: Captured = move.placed.runner.suspend(room, at=self._node.clock.now())
        move.stopped_at = asyncio.get_running_loop().time()
        self._tell(move, host.ROOM_MOVE_PHASE_HOLD)
        return item

    async def _commit(self, move: _Move) -> int:
        room = move.placed.room
        key, revision = subjects.own(RoomId(move.room_id)), room.identity.own_revision
        try:
            return await self._kv.update(key, move.next_own, revision=revision)
        except Conflict:
            raise
        except errors.RallypointError as error:
            logger.warning("commit_doubtful", extra={"room": move.room_id, "reason": str(error)})
            move.step(Leaving.DOUBTFUL)
            return await self._resolve(move)

    async def _resolve(self, move: _Move) -> int:
        """The revision if the commit came through; Unavailable once it is sure never to.

        It may be on its way still. So the old record is written again, which takes its place.
        """
        key, room = subjects.own(RoomId(move.room_id)), move.placed.room
        while True:
            try:
                entry = await self._kv.get(key)
                if entry is not None and entry.value == move.next_own:
                    return entry.revision
                revision = room.identity.own_revision
                if entry is None or entry.value != move.own:
                    raise Conflict("REVISION_CONFLICT", "the room is another's")
                if entry.revision == revision:
                    revision = await self._kv.update(key, move.own, revision=revision)
                else:  # written again by an earlier turn, whose ack was lost
                    revision = entry.revision
            except Conflict:
                if await self._is_anothers(move):
                    raise
            except errors.RallypointError:
                await asyncio.sleep(RETRY_S)
            else:
                room.identity = replace(room.identity, own_revision=revision)
                move.step(Leaving.KEPT)
                raise errors.Unavailable("COMMIT_LOST", "the commit was not stored in time")

    async def _is_anothers(self, move: _Move) -> bool:
        """Whether the record is neither the old nor the new one; False while nobody can say."""
        try:
            entry = await self._kv.get(subjects.own(RoomId(move.room_id)))
        except errors.RallypointError:
            await asyncio.sleep(RETRY_S)
            return False
        return entry is None or entry.value not in (move.own, move.next_own)

    async def _start(self, move: _Move, stub: Stub, revision: int) -> None:
        """Have the target go on; should it not hear of it, the record tells it."""
        still = move.placed.room.still
        assert still is not None
        end = asyncio.get_running_loop().time() + START_S
        while asyncio.get_running_loop().time() < end:
            inputs, left = still.take_inputs(), still.take_left()
            request = transfer.StartRoomRequest(
                room_id=move.room_id,
                epoch=move.epoch,
                transfer=move.transfer,
                own_revision=revision,
                inputs=inputs,
                left=left,
            )
            try:
                async with rpc.calling():
                    await stub.StartRoom(request, timeout=START_S)
            except (errors.Unavailable, errors.DeadlineExceeded) as error:
                logger.info("start_waits", extra={"room": move.room_id, "reason": str(error)})
                still.inputs[:0], still.left[:0] = inputs, left
                await asyncio.sleep(RETRY_S)
            except errors.RallypointError as error:
                logger.warning("start_failed", extra={"room": move.room_id, "reason": str(error)})
                return
            else:
                if not still.inputs and not still.left:
                    return

    # --- the end ---

    def _leave(self, move: _Move) -> None:
        """The room is the target's: nothing of it is left here but where it is."""
        room = move.placed.room
        room.ended = Ended(-1, reason=SUPERSEDED)
        # Once more, for gateways that attached meanwhile; to the others it is no news.
        moved = self._tell(move, host.ROOM_MOVE_PHASE_MOVED)
        for slot in list(room.streams):
            room.unseat(slot)
        self._node.leave(move.placed, moved)

    def _lose(self, move: _Move) -> None:
        """Somebody else has the room: it ends here as any room that was superseded."""
        self._node.lose(move.placed)

    async def _stay(self, move: _Move) -> None:
        """Nothing came of it: the room goes on as it stood."""
        item = move.item
        if item is None:
            return
        await self._node.go_on(move.placed, item)
        self._tell(move, host.ROOM_MOVE_PHASE_STAYED)
        logger.info("room_stays", extra={"room": move.room_id, "to": move.request.node_id})

    async def _abandon(self, move: _Move, stub: Stub) -> None:
        request = transfer.AbandonRoomRequest(room_id=move.room_id, transfer=move.transfer)
        try:
            async with rpc.calling():
                await stub.AbandonRoom(request, timeout=PREPARE_S)
        except errors.RallypointError:
            logger.debug("abandon_failed")  # then the target's time does it

    def _tell(self, move: _Move, phase: host.RoomMovePhase.ValueType) -> host.RoomMove:
        said = host.RoomMove(
            room_id=move.room_id, phase=phase, address=move.request.address, epoch=move.epoch
        )
        response = host.AttachResponse(moves=[said])
        for link in self._links():
            link.say(response)
        return said
