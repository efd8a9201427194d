"""RoomHostService: what fleet and gateways call."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
import grpc.aio

from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors
from rallypoint.kit.trunk_listener import TrunkListener
from rallypoint.room_state import seating
from rallypoint.room_state.domain.replies import Reply
from rallypoint.room_state.freezing import Freezing
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import INBOX_LIMIT, HostedRoom
from rallypoint.room_state.node import Node, Spawn
from rallypoint.room_state.runner import Placed
from rallypoint.room_state.still import ROOM_MOVING
from rallypoint.v1 import room_pb2

logger = logging.getLogger(__name__)

SERVICE = "rallypoint.internal.v1.RoomHostService"
ROOM_UNKNOWN = errors.NotFound("ROOM_UNKNOWN", "no such room here")
ROOM_BUSY = errors.Unavailable("ROOM_BUSY", "too much waits for the room", retry_after_s=0.5)
Context = grpc.aio.ServicerContext[Any, Any]
LAST_WORDS_S = 0.5
"""How long a gateway may take to read what came before the end of its stream."""


class RoomHostService:
    """Handlers; the node does the work."""

    def __init__(
        self,
        node: Node,
        trunks: TrunkListener,
        *,
        incarnation: str,
        spawn: Spawn,
        freezing: Freezing,
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._spawn = spawn
        self._freezing = freezing
        self._trunks = trunks
        self._links: set[GatewayLink] = set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the methods. Attach takes and writes encoded bytes."""
        handlers = {
            "CreateRoom": _unary(self.create_room, host.CreateRoomRequest),
            "AddPlayers": _unary(self.add_players, host.AddPlayersRequest),
            "RestoreRoom": _unary(self.restore_room, host.RestoreRoomRequest),
            "CloseRoom": _unary(self.close_room, host.CloseRoomRequest),
            "Ping": _unary(self.ping, host.PingRequest),
            "Attach": grpc.stream_stream_rpc_method_handler(self.attach),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def create_room(
        self, request: host.CreateRoomRequest, context: Context
    ) -> host.CreateRoomResponse:
        """Make a room; again returns fresh seat tokens."""
        return host.CreateRoomResponse(seats=await self._node.create(request))

    async def add_players(
        self, request: host.AddPlayersRequest, context: Context
    ) -> host.AddPlayersResponse:
        """Seat players in a room that runs."""
        return await self._node.add_players(request)

    async def restore_room(
        self, request: host.RestoreRoomRequest, context: Context
    ) -> host.RestoreRoomResponse:
        """Go on with a room from its snapshot."""
        placed = await self._node.restore(
            request.room_id, epoch=request.epoch, own_revision=request.own_revision
        )
        tick = await placed.runner.call(lambda: placed.runner.table.tick_of(placed.room.slot))
        return host.RestoreRoomResponse(tick=tick)

    async def close_room(
        self, request: host.CloseRoomRequest, context: Context
    ) -> host.CloseRoomResponse:
        """End a room with a reason."""
        reason = request.reason or "CLOSED"
        await self._node.close(request.room_id, reason, max_epoch=request.max_epoch)
        return host.CloseRoomResponse()

    async def ping(self, request: host.PingRequest, context: Context) -> host.PingResponse:
        """Answer while the loop turns."""
        frozen = self._freezing.pinged(request.frozen)
        self._node.fleet_heard_at = asyncio.get_running_loop().time()
        return host.PingResponse(incarnation=self._incarnation, frozen=frozen)

    async def attach(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Carry one gateway's clients until it, or this node, ends the stream."""
        limit = self._node.settings.attach_pending_bytes
        link = GatewayLink("", limit_bytes=limit)
        self._links.add(link)
        reading = self._spawn(self._read(link, requests), name="attach.read")
        try:
            async for response in link.responses():
                yield response
            await link.wait_read(LAST_WORDS_S)
        finally:
            reading.cancel()
            link.abort()
            self._links.discard(link)
            self._detached(link)

    def links(self) -> Collection[GatewayLink]:
        """The gateways attached now."""
        return tuple(self._links)

    def end_attaches(self) -> None:
        """End all streams, at the end of a drain."""
        for link in self._links:
            link.close()

    async def _read(self, link: GatewayLink, requests: AsyncIterator[bytes]) -> None:
        try:
            async for data in requests:
                self._received(link, data)
        except grpc.aio.UsageError:
            logger.debug("attach_ended", extra={"gateway": link.gateway_id})
        except Exception:
            logger.exception("attach_failed", extra={"gateway": link.gateway_id})
        finally:
            link.close()

    def _received(self, link: GatewayLink, data: bytes) -> None:
        """Take one encoded request, whichever way it came."""
        rest = self._node.doors.take_inputs(data)
        if rest:
            self._take(link, host.AttachRequest.FromString(rest))

    def _take(self, link: GatewayLink, request: host.AttachRequest) -> None:
        """One flush of a gateway, or what `attach` left of it."""
        if request.gateway_id:
            link.gateway_id = request.gateway_id
        rooms = self._node.rooms
        strangers: set[str] = set()
        for item in request.inputs:  # without C by far the most frequent thing: few calls
            seat = item.seat
            placed = rooms.get(seat.room_id)
            if placed is None:
                if not self._point(link, seat.room_id) and not self._node.has_ended(seat.room_id):
                    strangers.add(seat.room_id)
                continue
            if (room := placed.room).ended is not None:
                continue
            stream = room.streams.get(seat.slot)
            if stream is None:
                placed.runner.early(room, item)
            elif stream.generation == seat.generation:
                if room.still is None:
                    placed.runner.hear(room, item)
                stream.offer(item.first_seq, item.inputs)
        for room_id in strangers:
            link.say(_not_here(room_id))
        for join in request.joins:
            self._join(link, join)
        for leave in request.leaves:
            self._leave(link, leave)
        for message in request.messages:
            self._message(link, message)
        for client in request.resyncs:
            self._resync(link, client)
        if request.trunk_wanted and self._trunks.is_open:
            link.offer_trunk(self._trunks)
        if request.trunk_begins:
            link.read_trunk(functools.partial(self._received, link))

    def _join(self, link: GatewayLink, request: host.ClientJoin) -> None:
        placed = self._node.rooms.get(request.room_id)
        if placed is None or placed.room.waiting >= INBOX_LIMIT:
            error = ROOM_UNKNOWN if placed is None else ROOM_BUSY
            seating.refuse_join(link, request.client, error)
            return
        table = placed.runner.table
        _post(placed, functools.partial(seating.join, table, placed.room, link, request))

    def _leave(self, link: GatewayLink, request: host.ClientLeave) -> None:
        if request.client:
            stream, room = link.streams.get(request.client), link.rooms.get(request.client)
            if stream is not None and room is not None:
                slot, generation = stream.slot, stream.generation
                self._end_stream(room, slot, generation, for_good=request.for_good)
            return
        placed = self._node.rooms.get(request.seat.room_id)
        if placed is not None:
            seat = request.seat
            self._end_stream(placed.room, seat.slot, seat.generation, for_good=request.for_good)

    def _end_stream(self, room: HostedRoom, slot: int, generation: int, *, for_good: bool) -> None:
        loop = asyncio.get_running_loop()
        placed = self._node.rooms.get(room.identity.room_id)

        def end() -> None:
            if room.still is not None:
                room.still.end(slot, generation, for_good=for_good, end=end)
                return
            stream = room.streams.get(slot)
            if placed is None or placed.room is not room:
                room.unseat(slot)
            elif for_good:
                # Also when the stream has ended: the two may come in any order.
                if room.book.generation(slot) == generation:
                    seating.leave(placed.runner.table, room, slot, "LEFT")
            elif stream is not None and stream.generation == generation:
                seating.drop(placed.runner.table, room, stream, loop.time())

        room.post(end)

    def _message(self, link: GatewayLink, message: host.ClientMessage) -> None:
        placed = self._node.rooms.get(message.seat.room_id)
        if placed is None or placed.room.waiting >= INBOX_LIMIT:
            error: errors.RallypointError = ROOM_UNKNOWN if placed is None else ROOM_BUSY
            if placed is None and self._point(link, message.seat.room_id):
                error = ROOM_MOVING
            seating.send_reply(link, message.call, Reply(int(error.code), error.reason))
            return
        if self._freezing.was_alone():
            self._spawn(self._answer_when_sure(placed, link, message), name="message.sure")
        else:
            _post(placed, functools.partial(self._answer, placed, link, message))

    async def _answer_when_sure(
        self, placed: Placed, link: GatewayLink, message: host.ClientMessage
    ) -> None:
        """Answer once a write under the room's fence has shown that it is still ours."""
        placed.room.waiting += 1
        try:
            await self._node.snapshots.store(placed)
        except errors.RallypointError as error:
            logger.info("message_unsure", extra={"reason": str(error)})
            _refuse_moving(link, message)
        else:
            _post(placed, functools.partial(self._answer, placed, link, message))
        finally:
            placed.room.waiting -= 1

    def _answer(self, placed: Placed, link: GatewayLink, message: host.ClientMessage) -> None:
        """In the table's task: nothing is promised for a room that may go on elsewhere by now."""
        if self._freezing.is_in_doubt():
            _refuse_moving(link, message)
        else:
            seating.answer(placed.runner.table, placed.room, link, message)

    def _point(self, link: GatewayLink, room_id: str) -> bool:
        """Tell a gateway that has missed it where a room went; whether we know."""
        moved = self._node.moved.get(room_id)
        if moved is not None:
            link.say(host.AttachResponse(moves=[moved]))
        return moved is not None

    def _resync(self, link: GatewayLink, client: int) -> None:
        stream, room = link.streams.get(client), link.rooms.get(client)
        if stream is not None and room is not None:
            room.refresh(stream)

    def _detached(self, link: GatewayLink) -> None:
        """The gateway is gone: its clients' seats are kept for the grace time."""
        for client, stream in list(link.streams.items()):
            room = link.rooms[client]
            self._end_stream(room, stream.slot, stream.generation, for_good=False)


def _not_here(room_id: str) -> host.AttachResponse:
    """Have a gateway that passes on inputs look for their room: without a stream there it was not
    told that the room goes on elsewhere."""
    moved = room_pb2.Control(kind=room_pb2.CONTROL_KIND_MOVED, reason=ROOM_UNKNOWN.reason)
    return host.AttachResponse(controls=[host.RoomControl(room_id=room_id, control=moved)])


def _refuse_moving(link: GatewayLink, message: host.ClientMessage) -> None:
    seating.send_reply(link, message.call, Reply(int(ROOM_MOVING.code), ROOM_MOVING.reason))


def _post(placed: Placed, command: Any) -> None:
    """Post with the room's inbox counted."""
    room = placed.room
    room.waiting += 1

    def run() -> None:
        room.waiting -= 1
        command()

    placed.runner.post(run)


def _unary(behavior: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behavior,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
