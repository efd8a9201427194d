"""The engine: up to 64 rooms of one game, stepped together. No sockets, no clock.

Whoever owns one calls `open`, the seat hooks, `offer`, `answer` and `step` in any order from one
thread, and asks `take_ended` after each for rooms that finished, were closed or failed. A room that
ended keeps its slot, so that its last frame can be written, until `release`.

A tick of a column game works on all rooms. When it raises, everything is put back as it was before
(the arena's copy) and the rooms are stepped one by one: the one that raises again is put back alone
and ends with GAME_ERROR, the others go on. The other hooks concern one room from the start.
"""

import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rallypoint.games import rewind, rings
from rallypoint.games.arena import Arena
from rallypoint.games.bound import Views
from rallypoint.games.budget import CLOSE, Clock, TickBudget
from rallypoint.games.definition import Book, Definition, Seats
from rallypoint.games.dice import Dice
from rallypoint.games.frames import FrameWriter
from rallypoint.games.game import Refused
from rallypoint.games.inputs import InputRings
from rallypoint.games.lifecycle import GAME_ERROR as GAME_ERROR
from rallypoint.games.lifecycle import TICK_BUDGET, Decisions, Open
from rallypoint.games.lifecycle import Ended as Ended
from rallypoint.games.lifecycle import GameFailed as GameFailed
from rallypoint.games.lifecycle import RoomSpec as RoomSpec
from rallypoint.games.room import Effects, Room, Rooms, Seat, SeatState
from rallypoint.games.saved import EVENT_GAP, SavedRoom, layout_hash
from rallypoint.games.schema import Array
from rallypoint.kit import errors


class RoomTable(Decisions):
    """Rooms of one game that share columns; a room is addressed by its slot.

    `clock` is what the tick budget of rooms is counted with.
    """

    def __init__(
        self, definition: Definition, capacity: int = 0, *, clock: Clock = lambda: 0.0
    ) -> None:
        super().__init__()
        self.definition = definition
        self.capacity = capacity = capacity or definition.table_rooms
        self.high = 0
        """One more than the highest slot taken."""
        self.tick = 0
        self.rollbacks = 0
        self.has_wished = False
        """Whether a room has ever asked for players of its queue."""
        self.layout = layout_hash(definition)
        self.arena = Arena(definition.layouts, capacity)
        self.writer = FrameWriter(definition, self.arena)
        self._budget = TickBudget(definition.info.tick_budget_ms / 1000, clock)
        self._host = definition.host(clock)
        self._rings = rings.make(definition.input, capacity, definition.seats)
        self._seats = self.arena.bind(Seats, slice(0, capacity))
        self._book = self.arena.bind(Book, slice(0, capacity))
        self._open: list[Open | None] = [None] * capacity
        self._live = np.zeros(capacity, np.bool_)
        self._ticks = np.zeros(capacity, np.int64)
        self._first_tick = np.zeros(capacity, np.int64)
        self._memory = rewind.Memory(definition, self.arena, self._rings.heard, self._open)
        self._timed: set[int] = set()
        self._oldest_due = math.inf
        self._quiet = contextvars.Context()
        """Where numpy says nothing; entering it is cheaper than `np.errstate` in each tick."""
        self._quiet.run(np.seterr, all="ignore")
        self._views = Views(
            self.arena,
            self._rings,
            seats=self._seats,
            book=self._book,
            live=self._live,
            ticks=self._ticks,
            first_tick=self._first_tick,
            dt_s=1.0 / definition.info.tick_hz,
            room=self.room,
            past=lambda table, start: self._memory.rewind(table, self.tick, self._ticks, start),
        )

    # --- rooms ---

    @property
    def rooms(self) -> int:
        """Slots taken."""
        return sum(entry is not None for entry in self._open)

    @property
    def rings(self) -> InputRings:
        """The inputs of all seats; seat s of slot r has the index r * seats + s."""
        return self._rings

    @property
    def ticks(self) -> Array:
        """`tick_of` all slots."""
        return self._ticks

    def room(self, slot: int) -> Room:
        """The room of a slot."""
        entry = self._open[slot]
        if entry is None:
            raise LookupError(f"slot {slot} is free")
        entry.room.tick = self.tick_of(slot)
        return entry.room

    def tick_of(self, slot: int) -> int:
        """A room's own tick: the table's, unless it came here from another table."""
        return int(self._ticks[slot])

    def open(self, spec: RoomSpec) -> int:
        """Make a room and return its slot. Raises what the game's on_create raises."""
        if len(spec.seats) > self.definition.seats:
            raise Refused("TOO_MANY_PLAYERS", f"the game has {self.definition.seats} seats")
        slot = self._open.index(None)
        self.arena.clear_room(slot)
        self.writer.open(slot, spec.epoch, spec.seats)
        self._book.dice[slot, 0] = spec.seed & 0xFFFFFFFFFFFFFFFF
        room = self._make_room(slot, spec, tick=self.tick, age=0)
        for seat in spec.seats:
            self._seats.state[slot, seat.slot] = SeatState.RESERVED
        try:
            self._host.create(room)
        except Exception:
            self.arena.clear_room(slot)
            raise
        for index in range(self.definition.seats):
            self._rings.reset(self._index(slot, index), 0)
        self._admit(slot, room)
        return slot

    def snapshot(self, slot: int) -> SavedRoom:
        """A room as it is now, for `restore`; raises what the game's on_snapshot raises."""
        inputs = self._rings.saved(self._index(slot, 0), self.definition.seats)
        return dataclasses.replace(
            self.loose(slot), columns=self.arena.room_bytes(slot), inputs=inputs
        )

    def loose(self, slot: int) -> SavedRoom:
        """The same without columns and inputs, for who reads those of many rooms at once."""
        room = self.room(slot)
        entry = self._open[slot]
        next_event, events = self.writer.saved_events(slot, self.tick)
        return SavedRoom(
            layout=self.layout,
            tick=room.tick,
            age=room.tick - room.first_tick,
            columns=b"",
            game=self._host.snapshot(room),
            timers=tuple((due - self.tick, name) for due, name in entry.timers) if entry else (),
            next_event=next_event,
            events=events,
            inputs=(),
            locked=room.locked,
            metadata=tuple(sorted(room.metadata.items())),
            backfill=room.backfill,
        )

    def restore(self, spec: RoomSpec, saved: SavedRoom, *, event_gap: int = EVENT_GAP) -> int:
        """Have a room go on here as it was saved, and return its slot; `spec.seed` is ignored.

        FailedPrecondition SNAPSHOT_LAYOUT when the game declares other columns by now. Raises what
        the game's on_restore raises. `event_gap` is 0 when nothing happened since it was saved.
        """
        if saved.layout != self.layout:
            raise errors.FailedPrecondition(
                "SNAPSHOT_LAYOUT", "the room was saved by a version with other columns"
            )
        slot = self._open.index(None)
        ahead = saved.tick - self.tick
        self.writer.open(slot, spec.epoch, spec.seats, ahead=ahead)
        room = self._make_room(slot, spec, tick=saved.tick, age=saved.age)
        room.locked, room.metadata = saved.locked, dict(saved.metadata)
        room.backfill = saved.backfill
        self.has_wished |= bool(saved.backfill)
        try:
            self.arena.load_room(slot, saved.columns)
            for seat, inputs in enumerate(saved.inputs):
                self._rings.restore(self._index(slot, seat), inputs)
            self._host.restore(room, saved.game)
        except Exception:
            self.arena.clear_room(slot)
            raise
        next_event = saved.next_event + event_gap
        self.writer.restore_events(slot, self.tick, next_event, saved.events)
        self._admit(slot, room, [(self.tick + ticks, name) for ticks, name in saved.timers])
        return slot

    def _admit(self, slot: int, room: Room, timers: Sequence[tuple[int, str]] = ()) -> None:
        self._open[slot] = Open(room, timers=list(timers), limiter=self.definition.limiter())
        self.high = max(self.high, slot + 1)
        self._oldest_due = min(self._oldest_due, self._too_old(slot))
        self._timed.add(slot)
        self._live[slot] = True
        self._commit(slot, room.effects)

    def release(self, slot: int) -> None:
        """Free the slot of a room that ended."""
        entry = self._open[slot]
        if entry is not None:
            self._host.forget(entry.room)
        self._open[slot] = None
        self.high = max((s + 1 for s, entry in enumerate(self._open) if entry), default=0)
        self._live[slot] = False
        self._budget.forget(slot)
        self.arena.clear_room(slot)

    def close(self, slot: int, reason: str) -> None:
        """End a room from outside."""
        self._end(Ended(slot, reason=reason))

    # --- seats ---

    def seat_state(self, slot: int, seat: int) -> SeatState:
        """How a seat is."""
        return SeatState(int(self._seats.state[slot, seat]))

    def admits(self, slot: int, player: Seat) -> Seat:
        """The seat that the game would give a player who comes later, who may get another team;
        raises Refused when it turns them away, and GameFailed."""
        team = self._ask("on_admit", slot, player)
        return player if team is None else dataclasses.replace(player, team=team)

    def add_seat(self, slot: int, seat: Seat) -> None:
        """Hold a seat for a player who comes later; one that was left becomes theirs."""
        room = self.room(slot)
        others = [other for other in room.seats if other.slot != seat.slot]
        room.seats = tuple(sorted((*others, seat), key=lambda held: held.slot))
        self.writer.seat(slot, seat)
        self._seats.state[slot, seat.slot] = SeatState.RESERVED
        self._rings.reset(self._index(slot, seat.slot), 0)

    def join(self, slot: int, seat: int) -> None:
        """A player takes the seat: for the first time, again, or from another stream."""
        before = self.seat_state(slot, seat)
        self._seats.state[slot, seat] = SeatState.CONNECTED
        if before is SeatState.RESERVED:
            self._hook("on_join", slot, seat)
        elif before is SeatState.DROPPED:
            self._rings.reset(self._index(slot, seat))
            self._hook("on_rejoin", slot, seat)
        else:
            self._rings.reset(self._index(slot, seat))

    def drop(self, slot: int, seat: int) -> None:
        """The player's stream broke."""
        self._seats.state[slot, seat] = SeatState.DROPPED
        self._rings.release(self._index(slot, seat))
        self._hook("on_drop", slot, seat)

    def leave(self, slot: int, seat: int, reason: str) -> None:
        """The player is gone for good."""
        self._seats.state[slot, seat] = SeatState.LEFT
        self._rings.release(self._index(slot, seat))
        self._hook("on_leave", slot, seat, reason)

    def applied_seq(self, slot: int, seat: int) -> int:
        """The seq of the newest input applied."""
        return int(self._rings.applied[self._index(slot, seat)])

    def offer(self, slot: int, seat: int, first_seq: int, inputs: Sequence[bytes]) -> None:
        """Inputs arrived."""
        self._rings.offer(self._index(slot, seat), first_seq, inputs)

    def input_of(self, slot: int, seat: int) -> Callable[[int, Sequence[bytes]], None]:
        """`offer` for one seat, as one call."""
        return functools.partial(self._rings.offer, self._index(slot, seat))

    def answer(self, slot: int, seat: int, kind: int, body: bytes) -> bytes:
        """A message arrived; raises Refused for what the game refuses, ResourceExhausted beyond
        its rate, and GameFailed else."""
        room, entry = self.room(slot), self._open[slot]
        if entry is not None:
            entry.limiter.take(seat, kind, room.tick * room.dt_s)
        return bytes(self._ask("on_message", slot, seat, kind, body))

    def _ask(self, hook: str, slot: int, *arguments: Any) -> Any:
        """Call a hook that may refuse; return its answer."""
        room, began = self.room(slot), self._budget.clock()
        try:
            answer = self._host.call(hook, room, *arguments)
        except Refused:
            room.effects = Effects()
            raise
        except Exception as error:
            self._fail(slot, error)
            raise GameFailed(GAME_ERROR) from error
        finally:
            self._budget.spend(slot, self._budget.clock() - began)
        self._commit(slot, room.effects)
        return answer

    def drain(self, slot: int, within_s: float) -> bool:
        """The node is to be emptied: whether the game ends its match here instead of moving."""
        return bool(self._hook("on_drain", slot, within_s) == "finish")

    # --- time ---

    def step(self) -> None:
        """One tick of all rooms."""
        self.tick += 1
        high = self.high
        if not high:
            return
        self._rings.take()
        seats = self.definition.seats
        self._ticks[:high] += 1
        # The low 16 bits, which is what the cast leaves.
        self._seats.ack[:high] = self._rings.applied[: high * seats].reshape(high, seats)
        self._rings.heard.show(self._seats.margin[:high], self.tick % self.definition.info.tick_hz)
        self._quiet.run(self._play, high)
        self._memory.remember(self.tick, self._seats.state)
        self._close_old(high)
        self._close_slow()

    def _play(self, high: int) -> None:
        self._fire_timers()
        if self._host.isolating:
            self._step_isolated(high)
        else:
            self._step_columns(high)

    def deltas(self) -> list[bytes]:
        """A frame per slot against those before; the writer has keyframes and seats' own parts."""
        return self.writer.deltas(self.high, self.tick)

    def _step_isolated(self, high: int) -> None:
        rooms = self._views.rooms(0, high)
        self._host.tick(rooms)
        self._count_time(rooms)
        for slot, error in rooms.failures.items():
            self._fail(slot, error)
        for slot, entry in self._running(high):
            self._commit(slot, entry.room.effects)

    def _step_columns(self, high: int) -> None:
        rooms = self._views.rooms(0, high)
        self.arena.save()
        try:
            self._host.tick(rooms)
        except Exception:
            self.rollbacks += 1
            self.arena.restore()
            self._step_apart(high)
        else:
            self._count_time(rooms)
            self._commit_all(rooms, 0)

    def _step_apart(self, high: int) -> None:
        for slot, _ in self._running(high):
            rooms = self._views.rooms(slot, slot + 1)
            try:
                self._host.tick(rooms)
            except Exception as error:
                self.arena.restore_room(slot)
                self._fail(slot, error)
            else:
                self._commit_all(rooms, slot)

    def _fire_timers(self) -> None:
        for slot in sorted(self._timed):
            entry = self._open[slot]
            if entry is None or entry.ended or not entry.timers:
                self._timed.discard(slot)
                continue
            due = [name for tick, name in entry.timers if tick <= self.tick]
            if due:
                entry.timers = [timer for timer in entry.timers if timer[0] > self.tick]
            for name in due:
                self._hook(name, slot)

    def _too_old(self, slot: int) -> float:
        """The table's tick at which a room that lives has lived too long; many ticks ahead."""
        info = self.definition.info
        age = int(self._ticks[slot] - self._first_tick[slot])
        return self.tick + int(info.max_age_s * info.tick_hz) + 1 - age

    def _close_old(self, high: int) -> None:
        if self.tick < self._oldest_due:
            return
        dues = {slot: self._too_old(slot) for slot in np.flatnonzero(self._live[:high]).tolist()}
        for slot, due in dues.items():
            if due <= self.tick:
                self.close(slot, "ROOM_TOO_OLD")
        self._oldest_due = min((due for due in dues.values() if due > self.tick), default=math.inf)

    def _count_time(self, rooms: Rooms) -> None:
        for slot, seconds in rooms.spent.items():
            self._budget.spend(slot, seconds)

    def _close_slow(self) -> None:
        for slot, over in self._budget.settle():
            self._slow.append(slot)
            if over == CLOSE:
                self.close(slot, TICK_BUDGET)

    def _running(self, high: int) -> Iterator[tuple[int, Open]]:
        for slot in range(high):
            entry = self._open[slot]
            if entry is not None and not entry.ended:
                yield slot, entry

    # --- what hooks did ---

    def _hook(self, hook: str, slot: int, *arguments: Any) -> Any:
        entry = self._open[slot]
        if entry is None or entry.ended:
            return None
        entry.room.tick = self.tick_of(slot)
        answer, began = None, self._budget.clock()
        try:
            answer = self._host.call(hook, entry.room, *arguments)
        except Exception as error:
            self._fail(slot, error)
        else:
            self._commit(slot, entry.room.effects)
        self._budget.spend(slot, self._budget.clock() - began)
        return answer

    def _commit_all(self, rooms: Rooms, offset: int) -> None:
        for index, effects in rooms.effects.items():
            if self._live[offset + index]:
                self._commit(offset + index, effects)

    def _commit(self, slot: int, effects: Effects) -> None:
        entry = self._open[slot]
        if entry is None or entry.ended:
            return
        if effects is entry.room.effects:
            entry.room.effects = Effects()
        entry.room.locked = entry.room.locked if effects.locked is None else effects.locked
        if effects.metadata is not None:
            entry.room.metadata = effects.metadata
        if effects.backfill is not None:
            entry.room.backfill = effects.backfill
            self.has_wished = True
        if effects.events:
            self.writer.emit(slot, self.tick, effects.events)
        tick_hz = self.definition.info.tick_hz
        for seconds, name in effects.timers:
            entry.timers.append((self.tick + max(1, round(seconds * tick_hz)), name))
            self._timed.add(slot)
        self._kicks += [(slot, seat, reason) for seat, reason in effects.kicks]
        self._said += [(slot, said) for said in effects.said]
        if effects.outcome is not None:
            self._end(Ended(slot, outcome=effects.outcome))
        elif effects.close_reason:
            self._end(Ended(slot, reason=effects.close_reason))

    def _fail(self, slot: int, error: Exception) -> None:
        self._end(Ended(slot, reason=GAME_ERROR, error=error))

    def _end(self, ended: Ended) -> None:
        entry = self._open[ended.slot]
        if entry is None or entry.ended:
            return
        entry.ended = True
        self._live[ended.slot] = False
        self._ended.append(ended)

    # --- views ---

    def _index(self, slot: int, seat: int) -> int:
        return slot * self.definition.seats + seat

    def _make_room(self, slot: int, spec: RoomSpec, *, tick: int, age: int) -> Room:
        room = Room(
            id=spec.id,
            options=spec.options,
            seats=spec.seats,
            bind=lambda table: self.arena.bind(table, slot),
            bind_input=lambda: self._rings.bind(slice(slot, slot + 1)).at(0),
            states=self._seats.state[slot],
            dice=Dice(self._book.dice[slot]),
            tick_hz=self.definition.info.tick_hz,
        )
        room.metadata = dict(spec.metadata)
        room.tick = self._ticks[slot] = tick
        room.first_tick = self._first_tick[slot] = tick - age
        return room
