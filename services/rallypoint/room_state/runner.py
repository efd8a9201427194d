"""One task owns one table of rooms: it alone touches the engine, all else is posted to it.

The task wakes when a tick is due or when something was posted (joins, leaves, messages, a new
room), so that a turn-based game answers at once. Frames go out at the end of the tick, in the same
task: one response per gateway with the frames of all rooms. Inputs are the exception to posting:
they are appended to the engine's rings as they arrive and looked at in the tick.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rallypoint.games.definition import Definition
from rallypoint.games.engine import GAME_ERROR, Ended, RoomSpec, RoomTable
from rallypoint.games.saved import SavedRoom
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors
from rallypoint.room_state import attach, captured, packing, seating
from rallypoint.room_state.captured import Captured
from rallypoint.room_state.domain.lags import Lags
from rallypoint.room_state.domain.pacing import Pacer
from rallypoint.room_state.domain.replies import ReplyLog
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.hosted import SUPERSEDED, HostedRoom, Observer, RoomIdentity
from rallypoint.room_state.meter import TableMeter
from rallypoint.room_state.publishing import Publisher, RoomsBySlot
from rallypoint.room_state.recording import Sink, Tape
from rallypoint.room_state.still import Still
from rallypoint.v1 import replay_pb2

logger = logging.getLogger(__name__)

EXPIRY_PERIOD_S = 0.25
T = TypeVar("T")
Closed = Callable[[HostedRoom, Ended], None]


@dataclass(frozen=True, slots=True)
class Placed:
    """A room and the table that runs it."""

    room: HostedRoom
    runner: "TableRunner"


class TableRunner:
    """Runs one table. `closed` is told of each room that ended, after its last frame."""

    def __init__(
        self,
        definition: Definition,
        *,
        index: int,
        closed: Closed,
        sink: Sink | None = None,
        doors: attach.Doors | None = None,
    ) -> None:
        """`sink` takes the recordings of rooms; without it none is recorded. `doors` is where
        inputs come in to the rooms of a node."""
        self.definition = definition
        self._doors = attach.Doors() if doors is None else doors
        self._sink = sink
        self.table = RoomTable(definition, clock=time.perf_counter)
        self.packer = packing.make(self.table)
        self.rooms = RoomsBySlot()
        self.meter = TableMeter(definition.info.name)
        self._publisher = Publisher(self.table, self.rooms, refused=self.meter.refused)
        self._pacer = Pacer(1.0 / definition.info.tick_hz, index)
        self._lags = Lags(
            self.table.capacity * definition.seats,
            tick_hz=definition.info.tick_hz,
            ticks_per_frame=definition.ticks_per_frame,
        )
        self._closed = closed
        self._inbox: deque[Callable[[], None]] = deque()
        self._after_frames: deque[Callable[[], None]] = deque()
        self._wake = asyncio.Event()
        self._ticking = False
        self._frozen = False
        self._over = False
        self._expiry_due = 0.0
        self._kept = 0

    @property
    def free(self) -> int:
        """Rooms it can still take."""
        return self.table.capacity - self.table.rooms - self._kept

    def frame_bytes(self, room: HostedRoom) -> int:
        """Bytes sent from the room's slot so far to each client in step; only differences count."""
        return int(self._publisher.frame_bytes[room.slot])

    def post(self, command: Callable[[], None]) -> None:
        """Have something done by the table's task, soon."""
        self._inbox.append(command)
        self._wake.set()

    async def call(self, command: Callable[[], T], *, after_frames: bool = False) -> T:
        """Have something done by the table's task and return what it returns, or raise that.

        `after_frames`: right after the next frames are out, for what must not delay them; at once
        in a table that stands still.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(command())
            except Exception as error:
                done.set_exception(error)

        (self._after_frames if after_frames else self._inbox).append(run)
        self._wake.set()
        return await done

    def freeze(self, *, frozen: bool) -> None:
        """Stand still, or go on from there."""
        self._frozen = frozen
        self._ticking = False
        self._wake.set()

    async def run(self) -> None:
        """Tick for ever; idle while there is no room."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wait(loop)
            self._serve(self._inbox)
            if self._frozen or not self._ticking:
                self._serve(self._after_frames)
            now = loop.time()
            if self._frozen:
                continue
            if self.rooms and not self._ticking:
                self._ticking = True
                self._pacer.start(now)
            elif self._ticking:
                self._tick(now)

    # --- rooms ---

    def open(
        self, identity: RoomIdentity, spec: RoomSpec, book: SeatBook, observer: Observer
    ) -> HostedRoom:
        """Make a room; raises what the game's on_create raises."""
        slot = self.table.open(spec)
        return self._host(slot, identity, book, observer, replay_pb2.REPLAY_START_CREATED)

    def reopen(
        self,
        identity: RoomIdentity,
        saved: tuple[RoomSpec, SavedRoom],
        book: SeatBook,
        observer: Observer,
        *,
        replies: Mapping[int, ReplyLog],
        event_gap: int,
    ) -> HostedRoom:
        """Go on with a saved room; raises what `RoomTable.restore` raises."""
        slot = self.table.restore(*saved, event_gap=event_gap)
        moved, recovered = replay_pb2.REPLAY_START_MOVED, replay_pb2.REPLAY_START_RECOVERED
        start = recovered if event_gap else moved
        room = self._host(slot, identity, book, observer, start)
        room.replies.update(replies)
        return room

    def _host(
        self,
        slot: int,
        identity: RoomIdentity,
        book: SeatBook,
        observer: Observer,
        start: replay_pb2.ReplayStart.ValueType,
    ) -> HostedRoom:
        room = HostedRoom(
            identity,
            slot=slot,
            state=self.table.room(slot),
            book=book,
            post=self.post,
            observer=observer,
        )
        if identity.recording is not None and self._sink is not None:
            room.tape = Tape(
                self.definition, identity.recording, self._sink,
                room_id=identity.room_id, epoch=identity.epoch, queue=identity.queue,
                created_s=identity.created_s, start=start, seats=book.seats, phase=room.phase,
            )  # fmt: skip
        self.rooms[slot] = room
        self._let_in(room)
        seats = self.definition.seats
        self._lags.forget(slice(slot * seats, (slot + 1) * seats))
        return room

    def close(self, room: HostedRoom, reason: str) -> None:
        """End a room from outside; one that goes on elsewhere without a last frame."""
        if self.rooms.get(room.slot) is room:
            self.table.close(room.slot, reason)
            self._collect()
            if reason == SUPERSEDED:
                self._give_up(room)

    def suspend(self, room: HostedRoom, *, at: float, held: bool = False) -> Captured:
        """Take a room out of the table and return what it was; a place is kept for it."""
        if room.still is not None or self.rooms.get(room.slot) is not room:
            raise errors.Aborted("ROOM_MOVING", "the room is being moved")
        loop = asyncio.get_running_loop()
        room.copies += 1
        item = captured.take(room, self.table, now=loop.time(), at=at)
        if room.tape is not None:
            room.tape.cut()
        room.still = Still(room.identity.room_id, held=held)
        self._shut(room)
        for stream in room.streams.values():
            stream.offer = room.still.offer(stream)
        del self.rooms[room.slot]
        self.table.release(room.slot)
        self._kept += 1
        if not self.rooms:
            self._ticking = False
        return item

    def go_on(self, room: HostedRoom, item: Captured) -> None:
        """Put a room back as it was taken out; then do what waited for it."""
        still = self.forget(room)
        try:
            slot = self.table.restore(item.spec(room.identity.epoch), item.engine, event_gap=0)
        except Exception:
            seating.turn_away(still)
            raise
        room.slot, room.state = slot, self.table.room(slot)
        self.rooms[slot] = room
        self._let_in(room)
        for stream in room.streams.values():
            stream.offer = self.table.input_of(slot, stream.slot)
            room.refresh(stream)
        if still is not None:
            seating.catch_up(self.table, room, still.inputs)
            for end in still.ends:
                end()
            for link, request in still.joins:
                seating.join(self.table, room, link, request)
        self._collect()

    def _let_in(self, room: HostedRoom) -> None:
        """Let the inputs of a room that has its place in the table in."""
        room.enter_by(attach.door_of(self.table, room.slot))
        self._doors.put(room.identity.room_id, room.door)

    def _shut(self, room: HostedRoom) -> None:
        """Its place is another room's from now on."""
        self._doors.remove(room.identity.room_id, room.door)
        room.door = None

    def early(self, room: HostedRoom, item: host.ClientInput) -> None:
        """Inputs of a stream that is about to come back to a room that came here."""
        seat = item.seat
        if not room.book.awaits(seat.slot, seat.generation):
            return
        if room.still is not None:
            room.still.early(seat.slot, seat.generation, item.first_seq, item.inputs)
        else:
            self.table.offer(room.slot, seat.slot, item.first_seq, item.inputs)

    def hear(self, room: HostedRoom, item: host.ClientInput) -> None:
        """What a call with inputs says besides them."""
        self.table.rings.heard.hear(
            room.slot * self.definition.seats + item.seat.slot,
            ack_tick=item.ack_tick,
            view_ms=item.view_ms,
            margin_ms=item.margin_ms,
        )

    def forget(self, room: HostedRoom) -> Still | None:
        """Give up the place of a room that was taken out; what waited for it."""
        still, room.still = room.still, None
        if still is not None:
            self._kept -= 1
        return still

    # --- time ---

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when a tick is due or something was posted."""
        if not self._ticking:
            await self._wake.wait()
        elif self._pacer.deadline > loop.time():
            timer = loop.call_at(self._pacer.deadline, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        else:
            await asyncio.sleep(0)  # behind: let the others have their turn
        self._wake.clear()

    def _serve(self, inbox: deque[Callable[[], None]]) -> None:
        for _ in range(len(inbox)):
            command = inbox.popleft()
            try:
                command()
            except Exception:
                logger.exception("command_failed", extra={"game": self.definition.info.name})
            self._collect()

    def _tick(self, now: float) -> None:
        late_s = now - self._pacer.deadline
        dropped = self._pacer.dropped
        steps = self._pacer.due(now)
        if not steps:
            return
        started = time.perf_counter()
        publish = False
        for _ in range(steps):
            self.table.step()
            publish |= self.table.tick % self.definition.ticks_per_frame == 0
        self._collect()
        last_due = started - (now - self._pacer.previous)
        size = self._publisher.publish(last_due) if publish else 0
        self.meter.ticked(time.perf_counter() - started, late_s=late_s, frame_bytes=size)
        self.meter.lost(dropped=self._pacer.dropped - dropped, rollbacks=self.table.rollbacks)
        if now >= self._expiry_due:
            self._expiry_due = now + EXPIRY_PERIOD_S
            self._expire(now)
            self._tell_paces()
        if publish and self._over:
            self._sweep()
        if publish:
            self._serve(self._after_frames)

    def _expire(self, now: float) -> None:
        timed = [room for room in self.rooms.values() if not room.book.settled]
        for room in timed:
            for seat in room.book.missing(now):
                seating.lose(self.table, room, seat, now)
            for seat, reason in room.book.expired(now):
                seating.leave(self.table, room, seat, reason)
        self._collect()

    def _tell_paces(self) -> None:
        """Tell gateways of clients who fall behind."""
        heard, seats = self.table.rings.heard, self.definition.seats
        self.meter.margins(heard.margin_ms)
        ticks = np.repeat(self.table.ticks, seats)
        for index, pace in self._lags.look(ticks, heard.ack_tick, heard.calls):
            slot, seat = divmod(index, seats)
            stream = self.rooms[slot].streams.get(seat) if slot in self.rooms else None
            if stream is not None:
                paced = host.ClientPace(client=stream.client, pace=host.Pace.ValueType(pace))
                stream.link.say(host.AttachResponse(paces=[paced]))

    def _collect(self) -> None:
        """Take up what the engine decided: words to players, seats taken away, rooms that ended."""
        for slot, said in self.table.take_said():
            if slot in self.rooms:
                self.rooms[slot].say(said)
        for slot in self.table.take_slow():
            self.meter.slow()
            if slot in self.rooms:
                logger.warning("room_slow", extra={"room": self.rooms[slot].identity.room_id})
        for slot, seat, reason in self.table.take_kicks():
            if slot in self.rooms:
                self.rooms[slot].book.kick(seat)
                seating.leave(self.table, self.rooms[slot], seat, reason)
        for ended in self.table.take_ended():
            room = self.rooms[ended.slot]
            room.ended = ended
            self._over = True
            self.meter.ended(ended.reason)
            if ended.reason == GAME_ERROR:
                logger.error(
                    "game_raised",
                    exc_info=ended.error,
                    extra={"game": room.identity.game, "room": room.identity.room_id},
                )

    def _sweep(self) -> None:
        """Give up the slots of rooms whose last frame is out."""
        self._over = False
        for room in list(self.rooms.values()):
            self._give_up(room)

    def _give_up(self, room: HostedRoom) -> None:
        if room.ended is not None:
            self._shut(room)
            del self.rooms[room.slot]
            self.table.release(room.slot)
            self._closed(room, room.ended)
        if not self.rooms:
            self._ticking = False
