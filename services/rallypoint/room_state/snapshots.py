"""Snapshots: each second what changed of each room goes to `rooms/snap.<room>` (decisions §3).

Rooms have phases, so that their snapshots spread over the second. A room's table copies it between
two ticks; making the message and storing it happens here, a few at a time, and only the newest copy
of a room waits. Every write is fenced by `own.<room>`: when that has moved, the room goes on
elsewhere and ends here. While the broker is away rooms play on and are stored when it is back.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Final

from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId
from rallypoint.room_state import captured
from rallypoint.room_state.captured import Captured
from rallypoint.room_state.hosted import SUPERSEDED
from rallypoint.room_state.runner import Placed

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.8
"""With the time to store one, at most a second of play is lost."""
SLICES: Final = 10
"""More would spread the load better; rooms stored together share writes to the broker and reads."""
WRITERS: Final = 8
UNCHANGED_S: Final = 5.0
"""A room in which only time passes is stored this often, so that its clock is not far behind."""
RETRY_S: Final = 0.1


class Snapshots:
    """Stores the rooms that `rooms` returns."""

    def __init__(self, bus: Bus, rooms: Callable[[], Mapping[str, Placed]], clock: Clock) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.OWNERS.name)
        self._rooms = rooms
        self._clock = clock
        self._waiting: dict[str, tuple[Placed, Captured]] = {}
        self._wake = asyncio.Event()
        self._stored = metrics.ROOM_SNAPSHOTS.labels("stored")
        metrics.ROOM_SNAPSHOT_AGE_SECONDS.set_function(self.oldest_s)

    def oldest_s(self) -> float:
        """Seconds since the room that waits longest was stored."""
        now = self._clock.now()
        return max(
            (now - placed.room.stored_at for placed in self._rooms().values() if _is_kept(placed)),
            default=0.0,
        )

    async def run(self) -> None:
        """Store rooms for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_turns(), name="snapshots.turns")
            for number in range(WRITERS):
                tasks.create_task(self._write_waiting(), name=f"snapshots.{number}")

    async def store(self, placed: Placed) -> None:
        """Store a room as it is now, or later; raises Conflict when it is another's, and what the
        bus raises. Those who wait for the same room share one write."""
        room = placed.room
        if not room.identity.own_revision:
            return
        copies = room.copies
        async with room.storing:
            if room.stored is not None and room.stored.copy > copies:
                return
            item = await placed.runner.call(functools.partial(self._take, placed))
            self._waiting.pop(room.identity.room_id, None)
            if item is not None:
                await self._write(placed, item)

    async def store_copy(self, placed: Placed, item: Captured) -> None:
        """Store the last copy of a room that moves away; raises as `store` does."""
        async with placed.room.storing:
            self._waiting.pop(placed.room.identity.room_id, None)
            await self._write(placed, item)

    async def load(self, room_id: str) -> Captured:
        """A room's last snapshot; NotFound SNAPSHOT_MISSING, FailedPrecondition if unreadable."""
        entry = await self._kv.get(subjects.snapshot(RoomId(room_id)))
        if entry is None or entry.value is None:
            raise errors.NotFound("SNAPSHOT_MISSING", "the room was never saved, or has ended")
        return captured.from_bytes(entry.value)

    # --- turns ---

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        due, turn = loop.time(), 0
        while True:
            due = max(due + PERIOD_S / SLICES, loop.time())
            await asyncio.sleep(due - loop.time())
            turn = (turn + 1) % SLICES
            for placed in self._rooms().values():
                if placed.room.phase % SLICES == turn and _is_kept(placed):
                    placed.runner.post(functools.partial(self._offer, placed))

    def _offer(self, placed: Placed) -> None:
        """In the table's task: copy a room, and let it wait to be stored if it changed."""
        room = placed.room
        item = self._take(placed)
        if item is None:
            return
        stale = item.at - room.stored_at >= UNCHANGED_S
        if stale or room.stored is None or item.differs(room.stored):
            self._waiting[room.identity.room_id] = (placed, item)
            self._wake.set()

    def _take(self, placed: Placed) -> Captured | None:
        room, loop = placed.room, asyncio.get_running_loop()
        if room.ended is not None or room.still is not None:
            return None
        try:
            room.copies += 1
            return captured.take(room, placed.runner.table, now=loop.time(), at=self._clock.now())
        except Exception:
            metrics.ROOM_SNAPSHOTS.labels("unsavable").inc()
            if room.savable:
                logger.exception(
                    "snapshot_impossible",
                    extra={"room": room.identity.room_id, "game": room.identity.game},
                )
            room.savable = False
            return None

    # --- writes ---

    async def _write_waiting(self) -> None:
        while True:
            while (room_id := self._next()) is None:
                self._wake.clear()
                await self._wake.wait()
            placed, item = self._waiting.pop(room_id)
            try:
                async with placed.room.storing:
                    await self._write(placed, item)
            except Conflict:
                self._supersede(placed)
            except errors.RallypointError as error:
                logger.info("snapshot_waits", extra={"room": room_id, "reason": str(error)})
                await asyncio.sleep(RETRY_S)

    def _next(self) -> str | None:
        """The room that waits longest of those that nobody is storing."""
        for room_id, (placed, _) in self._waiting.items():
            if not placed.room.storing.locked():
                return room_id
        return None

    async def _write(self, placed: Placed, item: Captured) -> None:
        """Store one copy under the fence; the caller holds `storing`."""
        room, identity = placed.room, item.identity
        if room.ended is not None or (room.stored is not None and item.copy < room.stored.copy):
            return
        data, room.stored_head = captured.to_bytes(item, room.stored_head)
        own = subjects.own(RoomId(identity.room_id))
        key = subjects.snapshot(RoomId(identity.room_id))
        try:
            await self._kv.put(key, data, fence=self._kv.fence(own, identity.own_revision))
        except Conflict:
            metrics.ROOM_SNAPSHOTS.labels("fenced").inc()
            raise
        except errors.RallypointError:
            metrics.ROOM_SNAPSHOTS.labels("failed").inc()
            self._wake.set()
            raise
        self._stored.inc()
        metrics.ROOM_SNAPSHOT_BYTES.inc(len(data))
        room.stored, room.stored_at = item, item.at
        room.book.written(item.book)
        self._wake.set()

    def _supersede(self, placed: Placed) -> None:
        """The room is another's: it stops here."""
        if placed.room.ended is None:
            logger.warning("room_superseded", extra={"room": placed.room.identity.room_id})
            placed.runner.post(functools.partial(placed.runner.close, placed.room, SUPERSEDED))


def _is_kept(placed: Placed) -> bool:
    room = placed.room
    lives = room.ended is None and room.still is None
    return bool(room.identity.own_revision) and lives and room.savable
