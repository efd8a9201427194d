"""What one gateway and one room node say to each other, on behalf of the gateway's clients.

`Node` owns a link (`attach`) and the tables of what is carried over it. Frames to streams in step
go through the fan-out's `Routes` without passing here one by one: what passes is the room, once a
frame, and any client that is not in step, so that we look at what kind of frame it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any

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
MOST_AT_ONCE = 512
"""Frames written before others have their turn: some 2 ms."""
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
        self.in_step = board.fan_out.routes()
        """Fan-out slot by client number, of streams in step only."""
        self.streams: dict[int, Stream] = {}
        self.idle_since: float | None = None
        self._board = board
        self._calls: dict[int, asyncio.Future[bytes]] = {}

    # --- what clients want ---

    def take(self, room: Room) -> None:
        """Carry a room and its streams from now on."""
        room.node = self
        room.taken_at, room.doubted_at = self._board.clock(), None
        self.rooms[room.room_id] = room
        for stream in room.streams.values():
            self.join(stream)

    def give_up(self, room: Room) -> None:
        """Carry a room no more; its streams wait for the next node."""
        self.rooms.pop(room.room_id, None)
        for stream in room.streams.values():
            self.streams.pop(stream.client, None)
        self._detach(room)
        room.node = None
        room.doubted_at = None

    def doubt(self, room: Room) -> None:
        """Pass on nothing more of a room until it is sure that it is still this node's."""
        room.doubted_at, room.believed_at = self._board.clock(), None
        self._detach(room)
        self._board.lose(room)

    def _detach(self, room: Room) -> None:
        for stream in room.streams.values():
            self.in_step.discard(stream.client)
            stream.step(sync.Event.DETACHED)

    def trust(self, room: Room) -> None:
        """Pass a room on again: the streams that nothing was passed on to get their keyframes."""
        now = self._board.clock()
        room.taken_at, room.doubted_at, room.lost_at = now, None, now
        self.ask_again(room)
        for stream in room.streams.values():
            if stream.phase is sync.Phase.FRESH:
                self.resync(stream)

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
            self._tell_left(stream.client)

    def _tell_left(self, client: int) -> None:
        left = host.ClientLeave(client=client)
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
            if not self.link.message(message):
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

    def received(self, data: bytes) -> Iterator[None]:
        """Take one flush of the node: seats first, then frames, then last words.

        Between two steps the event loop may do something else.
        """
        flush = self.in_step.read(data)
        rest = host.AttachResponse.FromString(flush.rest)
        for joined in rest.joined:
            self._joined(joined)
        yield from self._frames(flush)
        for reply in rest.replies:
            self._replied(reply)
        for control in rest.controls:
            self._controlled(control)
        for kick in rest.kicks:
            self._kicked(kick)
        for paced in rest.paces:
            if (stream := self.streams.get(paced.client)) is not None:
                self._board.ladder.pace(stream, paced.pace)
        for said in rest.moves:
            if said.room_id in self.rooms:
                self._board.on_move(self.rooms[said.room_id], said)
        if rest.late_us:
            self.link.ticked(rest.late_us * 1e-6)
        if rest.HasField("trunk"):
            self.link.trunk_offered(rest.trunk)
        if rest.trunk_begins:
            self.link.trunk_begins()

    # --- seats ---

    def _joined(self, joined: host.ClientJoined) -> None:
        stream = self.streams.get(joined.client)
        if stream is None:
            # Left while the answer was on its way: the node has been told, but if the join waited
            # for its room (`room_state.still`) there was nobody yet to leave.
            if joined.HasField("welcome"):
                self._tell_left(joined.client)
            return
        if not joined.HasField("welcome"):
            self._refused(stream, joined)
        elif stream.phase is sync.Phase.JOINING:
            self._welcome(stream, joined)
        elif stream.phase is sync.Phase.AWAY and joined.generation == stream.generation:
            stream.step(sync.Event.REJOINED)
            stream.pace = host.PACE_FULL
            stream.asked_at = self._board.clock()
            self._board.found(stream.room)
        elif joined.generation == stream.generation:
            return  # answered twice, as a slow node does that was asked again
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
        if not stream.room.schema:
            stream.room.schema = welcome.schema.SerializeToString()
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
            if joined.code == Code.NOT_FOUND:
                # There is nothing to doubt: it has the room no more, or is yet to take it up.
                stream.room.taken_at, stream.room.doubted_at = self._board.clock(), None
            self._board.lose(stream.room)
        else:
            self._board.end(stream, error)

    # --- frames ---

    def _frames(self, flush: fanout.Flush) -> Iterator[None]:
        now = self._board.clock()
        left = MOST_AT_ONCE
        while (passed := flush.next_room(self.rooms, now, left)) is not None:
            sent, found, events = passed
            left -= sent
            if events:
                self._missed(events)
            if found is not None:
                left = yield from self._frame(flush, found, now=now, left=left)
            if left <= 0:
                yield
                left = MOST_AT_ONCE

    def _frame(
        self, flush: fanout.Flush, found: tuple[str, int], *, now: float, left: int
    ) -> Generator[None, None, int]:
        """Pass on one room's frame; how many more may be written before others have a turn."""
        room = self.rooms.get(found[0])
        epoch = found[1]
        if room is None or (epoch != room.epoch and not self._raise(room, epoch)):
            return left
        room.rhythm.seen_at = now
        if room.doubted_at is not None:  # also to those who came or came back since
            self._board.counts.stale += 1
            return left
        count, done = 0, False
        while not done:
            if left <= 0:
                yield
                left = MOST_AT_ONCE
            sent, done, strangers, events = flush.send(left)
            if strangers:
                sent += self._settle(strangers)
            if events:
                self._missed(events)
            count += sent
            left -= sent
        if count >= len(room.streams) - len(room.unsettled):
            room.full_at = now
        return left

    def _settle(self, strangers: list[tuple[int, bytes]]) -> int:
        """Write to those who may get their frame; how many of them are in step now."""
        to: dict[int, Stream] = {}
        bodies: list[bytes] = []
        last, look = b"", None
        for client, message in strangers:
            stream = self.streams.get(client)
            if stream is None or stream.slot < 0:
                continue
            if look is None or message is not last:
                last, look = message, frames.look(frames.of_message(message))
            sent = self._sent(stream, message, look)
            if sent is not None:
                to[stream.slot] = stream
                bodies.append(sent)
        problems = self._board.fan_out.push(list(to), bodies)
        for slot, problem in problems:
            self.missed(slot, problem)
        for stream in to.values():
            if stream.slow is not None:
                self._board.ladder.written(stream)
        return sum(stream.phase is sync.Phase.IN_STEP for stream in to.values())

    def _sent(self, stream: Stream, message: bytes, look: frames.Look) -> bytes | None:
        """What a stream that is not in the routes gets now; a keyframe brings it in step."""
        ladder, keyframe = self._board.ladder, not look.base_tick
        if not sync.takes(stream.phase, keyframe=keyframe):
            self._board.counts.stale += 1
            ladder.withhold(stream, look)
            return None
        if stream.phase is sync.Phase.HALVED:
            sent = ladder.take(stream, message, look)
        elif keyframe:
            sent = ladder.keyframe(stream, message, look)
            stream.step(sync.Event.KEYFRAME)
            if stream.slow is None:
                self.in_step[stream.client] = stream.slot
            else:
                stream.step(sync.Event.SLOWED)
        else:
            sent = message
        if sent is not None and stream.slow is not None:
            stream.sent_at = self._board.clock()
        return sent

    def _missed(self, events: list[Any]) -> None:
        for slot, problem in self._board.fan_out.settle(events):
            self.missed(slot, problem)

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
                self.in_step.discard(stream.client)
        return True

    def missed(self, slot: int, problem: fanout.Problem) -> None:
        """A frame was not written: nothing but a keyframe may follow it; or it will wait."""
        stream = self._board.by_slot.get(slot)
        if stream is None:
            return
        if problem is fanout.Problem.FILLING:
            self._board.ladder.halve(stream)
        elif problem is fanout.Problem.BEHIND:
            self._board.ladder.skipped(stream, self._board.fan_out.skipped(slot))
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
                self._board.ladder.flush(stream)
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
