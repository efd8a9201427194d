"""Snapshots: each second what changed of each room goes to `rooms/snap.<room>` (decisions §3).

Rooms have phases, so that their snapshots spread over the second: a slice of them at a time. A
table packs its rooms of a slice between two ticks; what changed is written at once, and only the
newest copy of a room waits. Every write is fenced by `own.<room>`: when that has moved, the room
goes on elsewhere and ends here. While the broker is away rooms play on and are stored when it is
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus import Bus, Conflict, Fence
from rallypoint.kit.bus_kv import Put
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId
from rallypoint.room_state import captured, packed
from rallypoint.room_state.captured import Captured
from rallypoint.room_state.hosted import SUPERSEDED, HostedRoom
from rallypoint.room_state.packed import Packed
from rallypoint.room_state.runner import Placed, TableRunner

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.8
"""With the time to store one, at most a second of play is lost."""
SLICES: Final = 2
"""More would spread the load better; rooms stored together share writes to the broker and reads."""
WRITERS: Final = 4
"""Batches on their way at a time, so that one whose acks are lost does not hold up the others."""
BATCH: Final = 64
Waiting = tuple[Placed, Packed]
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
        self._waiting: dict[str, Waiting] = {}
        self._tasks: asyncio.TaskGroup | None = None
        """Where writers run; None while nobody runs us."""
        self._writers = 0
        self._fenced = functools.lru_cache(maxsize=4096)(self._make_fenced)
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
            self._tasks = tasks
            try:
                await self._take_turns()
            finally:
                self._tasks = None

    async def store(self, placed: Placed) -> None:
        """Store a room as it is now, or later; raises Conflict when it is another's, and what the
        bus raises. Those who wait for the same room share one write."""
        room = placed.room
        if not room.identity.own_revision:
            return
        copies = room.copies
        async with self._storing(room):
            if room.stored is not None and room.stored.copy > copies:
                return
            take = functools.partial(self._take, placed.runner, [placed])
            taken = await placed.runner.call(take)
            self._waiting.pop(room.identity.room_id, None)
            if not taken and room.ended is None:
                await self._check_own(placed)
            await self._write_one(taken)

    async def _check_own(self, placed: Placed) -> None:
        """A room that cannot be stored has no write that is fenced: look whose it is."""
        identity = placed.room.identity
        own = await self._kv.get(subjects.own(RoomId(identity.room_id)))
        moved = own is None or own.revision != identity.own_revision
        if moved and placed.room.ended is None:
            raise Conflict("REVISION_CONFLICT", "the room is another node's by now")

    async def store_copy(self, placed: Placed, item: Captured) -> None:
        """Store the last copy of a room that moves away; raises as `store` does."""
        async with self._storing(placed.room):
            self._waiting.pop(placed.room.identity.room_id, None)
            await self._write_one([(placed, packed.of(item))])

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
            tables: dict[TableRunner, list[Placed]] = {}
            for placed in self._rooms().values():
                if placed.room.phase % SLICES == turn and _is_kept(placed):
                    tables.setdefault(placed.runner, []).append(placed)
            for runner, rooms in tables.items():
                runner.post(functools.partial(self._offer, runner, rooms))

    def _offer(self, runner: TableRunner, rooms: Sequence[Placed]) -> None:
        """In the table's task: copy rooms, and let those that changed wait to be stored."""
        for placed, item in self._take(runner, rooms):
            room = placed.room
            stale = item.at - room.stored_at >= UNCHANGED_S
            if stale or room.stored is None or item.differs(room.stored):
                self._waiting[room.identity.room_id] = (placed, item)
        self._write_waiting()

    def _take(self, runner: TableRunner, rooms: Sequence[Placed]) -> list[Waiting]:
        there = [each for each in rooms if each.room.ended is None and each.room.still is None]
        items = packed.take(
            [placed.room for placed in there],
            runner.table,
            runner.packer,
            now=asyncio.get_running_loop().time(),
            at=self._clock.now(),
        )
        taken: list[Waiting] = []
        for placed, item in zip(there, items, strict=True):
            if isinstance(item, Packed):
                taken.append((placed, item))
            else:
                _unsavable(placed, item)
        return taken

    # --- writes ---

    def _write_waiting(self) -> None:
        """Have what waits written, as far as there are writers; each ends with its batch, so that
        none is woken for nothing."""
        while self._tasks is not None and self._writers < WRITERS and (batch := self._next()):
            self._writers += 1
            self._tasks.create_task(self._write_batch(batch), name="snapshots.write")

    async def _write_batch(self, batch: Sequence[Waiting]) -> None:
        held: list[asyncio.Lock] = []
        try:
            for placed, _ in batch:
                await placed.room.storing.acquire()
                held.append(placed.room.storing)
            failed = await self._write(batch)
        finally:
            for lock in held:
                lock.release()
        if failed:
            self._write_waiting()
            await self._give_up(failed)
        self._writers -= 1
        self._write_waiting()

    def _next(self) -> list[Waiting]:
        """The rooms that wait longest of those that nobody is storing, in an order that all writers
        keep: each holds a batch's locks, and another's may get in between."""
        free = [
            room_id
            for room_id, (placed, _) in self._waiting.items()
            if not placed.room.storing.locked()
        ]
        return [self._waiting.pop(room_id) for room_id in sorted(free[:BATCH])]

    async def _give_up(self, failed: Mapping[str, tuple[Placed, errors.RallypointError]]) -> None:
        """End the rooms that are another's, and wait a while for the sake of the others."""
        reason = ""
        for placed, error in failed.values():
            if isinstance(error, Conflict):
                self._supersede(placed)
            else:
                reason = str(error)
        if reason:
            logger.info("snapshots_wait", extra={"rooms": len(failed), "reason": reason})
            await asyncio.sleep(RETRY_S)

    @contextlib.asynccontextmanager
    async def _storing(self, room: HostedRoom) -> AsyncIterator[None]:
        """Keep writers off a room; what waited meanwhile is written afterwards."""
        try:
            async with room.storing:
                yield
        finally:
            self._write_waiting()

    async def _write_one(self, batch: Sequence[Waiting]) -> None:
        for _, error in (await self._write(batch)).values():
            raise error

    async def _write(
        self, batch: Sequence[Waiting]
    ) -> dict[str, tuple[Placed, errors.RallypointError]]:
        """Store copies under their fences, and return what failed; the caller holds `storing`."""
        due = [
            (placed, item)
            for placed, item in batch
            if placed.room.ended is None
            and (placed.room.stored is None or item.copy >= placed.room.stored.copy)
        ]
        puts = [self._put(item) for _, item in due]
        failed: dict[str, tuple[Placed, errors.RallypointError]] = {}
        stored_bytes = 0
        answers = await self._kv.put_all(puts)
        for (placed, item), put, answer in zip(due, puts, answers, strict=True):
            if isinstance(answer, errors.RallypointError):
                outcome = "fenced" if isinstance(answer, Conflict) else "failed"
                metrics.ROOM_SNAPSHOTS.labels(outcome).inc()
                failed[put.key] = placed, answer
                continue
            stored_bytes += len(put.value)
            placed.room.stored, placed.room.stored_at = item, item.at
            placed.room.book.written(item.head.book)
        self._stored.inc(len(puts) - len(failed))
        metrics.ROOM_SNAPSHOT_BYTES.inc(stored_bytes)
        return failed

    def _put(self, item: Packed) -> Put:
        identity = item.head.identity
        key, fence = self._fenced(RoomId(identity.room_id), identity.own_revision)
        return Put(key, item.to_bytes(), fence)

    def _make_fenced(self, room_id: RoomId, own_revision: int) -> tuple[str, Fence]:
        """Where a room is stored, and as long as what."""
        return subjects.snapshot(room_id), self._kv.fence(subjects.own(room_id), own_revision)

    def _supersede(self, placed: Placed) -> None:
        """The room is another's: it stops here."""
        if placed.room.ended is None:
            logger.warning("room_superseded", extra={"room": placed.room.identity.room_id})
            placed.runner.post(functools.partial(placed.runner.close, placed.room, SUPERSEDED))


def _unsavable(placed: Placed, error: Exception) -> None:
    metrics.ROOM_SNAPSHOTS.labels("unsavable").inc()
    room = placed.room
    if room.savable:
        extra = {"room": room.identity.room_id, "game": room.identity.game}
        logger.error("snapshot_impossible", exc_info=error, extra=extra)
    room.savable = False


def _is_kept(placed: Placed) -> bool:
    room = placed.room
    lives = room.ended is None and room.still is None
    return bool(room.identity.own_revision) and lives and room.savable
