"""What one gateway and one room node say to each other, on behalf of the gateway's clients.

`Node` owns a link (`attach`) and the tables of what is carried over it. Per frame and client the
work is one dictionary look-up and the fan-out's `push`: whole responses are collected into one
push, streams in step are looked up without asking, and only a client that is not in step makes us
look at what kind of frame it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from rallypoint.gateway import attach, fanout, rooms_stream
from rallypoint.gateway.domain import frames, sync
from rallypoint.gateway.rooms_board import AWAY_RETRY_S, Board, away, reconnect
from rallypoint.gateway.rooms_stream import Room, Stream
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors, metrics
from rallypoint.kit.errors import Code
from rallypoint.v1 import room_pb2

# Refusals that say "not here" rather than "not you".
_ELSEWHERE = {Code.NOT_FOUND, Code.UNAVAILABLE, Code.FAILED_PRECONDITION}
ROOM_MOVING = "ROOM_MOVING"
"""A node's refusal while the room moves: what was asked is asked again when it has."""


class Node:
    """One room node: its rooms, the streams carried over its link, and the calls under way."""

    def __init__(
        self, address: str, board: Board, *, gateway_id: str, settings: attach.LinkSettings
    ) -> None:
        self.address = address
        self.link = attach.Link(address, owner=self, gateway_id=gateway_id, settings=settings)
        self.rooms: dict[str, Room] = {}
        self.in_step: dict[int, int] = {}
        """Fan-out slot by client number, of streams in step only: the hot look-up."""
        self.streams: dict[int, Stream] = {}
        self.idle_since: float | None = None
        self._board = board
        self._calls: dict[int, asyncio.Future[bytes]] = {}

    # --- what clients want ---

    def take(self, room: Room) -> None:
        """Carry a room and its streams from now on."""
        room.node = self
        self.rooms[room.room_id] = room
        for stream in room.streams.values():
            self.join(stream)

    def give_up(self, room: Room) -> None:
        """Carry a room no more; its streams wait for the next node."""
        self.rooms.pop(room.room_id, None)
        for stream in room.streams.values():
            self.streams.pop(stream.client, None)
            self.in_step.pop(stream.client, None)
            stream.step(sync.Event.DETACHED)
        room.node = None

    def join(self, stream: Stream) -> None:
        """Ask for the stream's seat, now or with the next greeting."""
        self.streams[stream.client] = stream
        self.link.control(lambda request: request.joins.append(stream.as_join()))

    def put_off(self, stream: Stream) -> None:
        """Ask for the stream's seat once its room, which moves now, runs again."""
        self.streams[stream.client] = stream
        stream.room.refused.add(stream)

    def ask_again(self, room: Room) -> None:
        """Ask once more for the seats of a room's streams that the node refused to take back."""
        now = self._board.clock()
        for stream in room.streams.values():
            if stream.phase is sync.Phase.AWAY and now - stream.asked_at >= AWAY_RETRY_S:
                stream.asked_at = now
                self.join(stream)

    def leave(self, stream: Stream) -> None:
        """The client went; its seat is kept for the grace time."""
        if self.streams.pop(stream.client, None) is not None:
            left = host.ClientLeave(client=stream.client)
            self.link.control(lambda request: request.leaves.append(left))

    def give_seat_up(self, seat: host.SeatRef) -> None:
        """The player gives the seat up for good; Unavailable while the node is away."""
        left = host.ClientLeave(for_good=True, seat=seat)
        if not self.link.control(lambda request: request.leaves.append(left)):
            raise away()

    def resync(self, stream: Stream) -> None:
        """Ask for a keyframe for this stream."""
        stream.asked_at = self._board.clock()
        self.link.control(lambda request: request.resyncs.append(stream.client))

    async def message(self, message: host.ClientMessage) -> bytes:
        """Deliver a command and return the game's answer, or raise its refusal."""
        call = message.call = next(self._board.calls)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[call] = reply
        try:
            if not self.link.control(lambda request: request.messages.append(message)):
                raise away()
            return await reply
        finally:
            del self._calls[call]

    # --- what the link says (attach.Owner) ---

    def greeting(self) -> host.AttachRequest:
        """Every stream asks for its seat again; what was held for a room that moved follows."""
        asyncio.get_running_loop().call_soon(self._release)
        return host.AttachRequest(joins=[stream.as_join() for stream in self.streams.values()])

    def detached(self) -> None:
        """The link broke: streams wait, calls fail, rooms are looked for."""
        self.in_step.clear()
        for stream in self.streams.values():
            stream.step(sync.Event.DETACHED)
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(away())
        for room in self.rooms.values():
            self._board.lose(room)
        self._release()

    def _release(self) -> None:
        for room in self.rooms.values():
            rooms_stream.release(room, self._board.clock())

    def received(self, response: host.AttachResponse) -> None:
        """Take one flush of the node: seats first, then frames, then last words."""
        for joined in response.joined:
            self._joined(joined)
        if response.frames:
            self._frames(response.frames)
        for reply in response.replies:
            self._replied(reply)
        for control in response.controls:
            self._controlled(control)
        for kick in response.kicks:
            self._kicked(kick)
        for said in response.moves:
            if said.room_id in self.rooms:
                self._board.on_move(self.rooms[said.room_id], said)

    # --- seats ---

    def _joined(self, joined: host.ClientJoined) -> None:
        stream = self.streams.get(joined.client)
        if stream is None:
            # Left while the answer was on its way: the node has been told.
            return
        if not joined.HasField("welcome"):
            self._refused(stream, joined)
        elif stream.phase is sync.Phase.JOINING:
            self._welcome(stream, joined)
        elif stream.phase is sync.Phase.AWAY and joined.generation == stream.generation:
            stream.step(sync.Event.REJOINED)
            stream.asked_at = self._board.clock()
            self._board.found(stream.room)
        else:
            # The seat goes on under another generation, so this stream's token is void.
            self.leave(stream)
            self._board.end(stream, control=reconnect("SEAT_CHANGED"))

    def _welcome(self, stream: Stream, joined: host.ClientJoined) -> None:
        welcome = joined.welcome
        if stream.schema_hash not in (0, welcome.schema.hash):
            stream.refuse(errors.FailedPrecondition("SCHEMA_MISMATCH", "another schema is played"))
            return
        stream.seat_slot = welcome.slot
        stream.generation = joined.generation
        stream.room.epoch = max(stream.room.epoch, welcome.epoch)
        stream.room.rhythm.period_s = 1 / welcome.tick_hz if welcome.tick_hz else 0.0
        welcome.stream_token = self._board.stream_token(stream)
        if not self._board.place(stream):
            return
        stream.step(sync.Event.WELCOMED)
        stream.sent_at = stream.asked_at = self._board.clock()
        if not stream.joined.done():
            stream.joined.set_result(None)
        stream.say(room_pb2.JoinResponse(welcome=welcome).SerializeToString())
        self._board.found(stream.room)

    def _refused(self, stream: Stream, joined: host.ClientJoined) -> None:
        error = errors.from_code(joined.code, joined.reason)
        if joined.reason == ROOM_MOVING:
            stream.room.refused.add(stream)
        elif stream.phase is sync.Phase.JOINING:
            stream.refuse(error)
        elif joined.code in _ELSEWHERE or joined.reason == "EPOCH_STALE":
            self._board.lose(stream.room)
        else:
            self._board.end(stream, error)

    # --- frames ---

    def _frames(self, room_frames: Iterable[host.RoomFrame]) -> None:
        slots: list[int] = []
        bodies: list[bytes] = []
        seen: set[str] = set()
        now = self._board.clock()
        for frame in room_frames:
            room_id = frame.room_id
            room = self.rooms.get(room_id)
            if room is None or (frame.epoch != room.epoch and not self._raise(room, frame.epoch)):
                continue
            if room_id in seen:
                # Two ticks in one flush: whoever misses the first must not get the second.
                self._push(slots, bodies)
                slots, bodies = [], []
            seen.add(room_id)
            room.rhythm.seen_at = now
            count = 0
            parts = frame.parts[:]
            for route in frame.routes:
                body, found = self._route(parts, route)
                slots += found
                bodies += [body] * len(found)
                count += len(found)
            if count >= len(room.streams) - len(room.unsettled):
                room.full_at = now
        self._push(slots, bodies)

    def _route(self, parts: Sequence[bytes], route: host.Route) -> tuple[bytes, list[int]]:
        # A slice copies a repeated field in one go; iterating asks protobuf for every element.
        clients = route.clients[:]
        body = b"".join(map(parts.__getitem__, route.parts[:]))
        try:
            found = list(map(self.in_step.__getitem__, clients))
        except KeyError:
            found = self._settle(clients, keyframe=frames.is_keyframe(body))
        return frames.as_message(body), found

    def _settle(self, clients: Sequence[int], *, keyframe: bool) -> list[int]:
        """The slots of those clients that may get this frame; a keyframe brings them in step."""
        found: list[int] = []
        for client in clients:
            stream = self.streams.get(client)
            if stream is None or stream.slot < 0:
                continue
            if not sync.takes(stream.phase, keyframe=keyframe):
                self._board.counts.stale += 1
                continue
            if keyframe:
                stream.step(sync.Event.KEYFRAME)
                self.in_step[client] = stream.slot
            found.append(stream.slot)
        return found

    def _raise(self, room: Room, epoch: int) -> bool:
        """Whether frames of this epoch count; a higher one voids all deltas of before."""
        if epoch < room.epoch:
            self._board.counts.stale += 1
            return False
        room.epoch = epoch
        if room.rhythm.seen_at != rooms_stream.NEVER:
            gap_s = self._board.clock() - room.rhythm.seen_at
            metrics.GATEWAY_EPOCH_GAP_SECONDS.observe(gap_s)
        for stream in room.streams.values():
            if stream.phase is not sync.Phase.JOINING:
                stream.step(sync.Event.EPOCH_RAISED)
                self.in_step.pop(stream.client, None)
        return True

    def _push(self, slots: list[int], bodies: list[bytes]) -> None:
        for slot, problem in self._board.fan_out.push(slots, bodies):
            self.missed(slot, problem)

    def missed(self, slot: int, problem: fanout.Problem) -> None:
        """A frame was not written: nothing but a keyframe may follow it."""
        stream = self._board.by_slot.get(slot)
        if stream is None:
            return
        if problem is fanout.Problem.BEHIND:
            stream.step(sync.Event.SKIPPED)
            stream.asked_at = rooms_stream.NEVER
            self.in_step.pop(stream.client, None)
        else:
            # The connection is gone; the stream's handler hears of it and cleans up.
            self._board.drop_slot(stream)

    # --- replies and last words ---

    def _replied(self, reply: host.MessageReply) -> None:
        waiting = self._calls.get(reply.call)
        if waiting is None or waiting.done():
            return
        if reply.code:
            retry_after_s = reply.retry_after_ms / 1000 or None
            refused = errors.from_code(reply.code, reply.reason, retry_after_s=retry_after_s)
            waiting.set_exception(refused)
        else:
            waiting.set_result(reply.body)

    def _controlled(self, said: host.RoomControl) -> None:
        kind = said.control.kind
        message = rooms_stream.control(kind, source=said.control)
        now = self._board.clock()
        for client in list(said.clients):
            stream = self.streams.get(client)
            if stream is None or stream.phase is sync.Phase.JOINING:
                continue
            if kind == room_pb2.CONTROL_KIND_CLOSED:
                self._board.end(stream, control=message)
            else:
                stream.say(message)
                stream.sent_at = now
        if kind == room_pb2.CONTROL_KIND_MOVED and said.room_id in self.rooms:
            self._board.lose(self.rooms[said.room_id])

    def _kicked(self, kick: host.ClientKick) -> None:
        stream = self.streams.get(kick.client)
        if stream is None:
            return
        if kick.reason == "STREAM_REPLACED":
            replaced = errors.Aborted("STREAM_REPLACED", "a newer stream took the seat")
            self._board.end(stream, replaced)
            return
        last_word = rooms_stream.control(room_pb2.CONTROL_KIND_KICKED, kick.reason)
        error = None if kick.reason == "LEFT" else errors.PermissionDenied(kick.reason)
        self._board.end(stream, error, control=last_word)
