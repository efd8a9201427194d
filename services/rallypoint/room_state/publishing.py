"""One table's frames on their way to the gateways: one response per gateway and tick.

While nobody comes, goes or needs a keyframe, all that changes from tick to tick are the rooms'
deltas. So who gets which is kept as rows, good until a room notes a change, and putting a response
together is one call. Else each room says what each of its streams gets.
"""

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from rallypoint.games.engine import RoomTable
from rallypoint.room_state import attach, recording
from rallypoint.room_state.domain import responses
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import Changes, HostedRoom, RoomBytes

NEVER: Final = -1


class RoomsBySlot(dict[int, HostedRoom]):
    """The rooms of a table; notes when one comes or goes, and has each note what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = Changes()
        self.tapes: dict[int, recording.Tape] = {}
        """Of those that are recorded."""

    def __setitem__(self, slot: int, room: HostedRoom) -> None:
        super().__setitem__(slot, room)
        room.changes = self.changes
        if room.tape is not None:
            self.tapes[slot] = room.tape
        self.changes.count += 1

    def __delitem__(self, slot: int) -> None:
        super().__delitem__(slot)
        self.tapes.pop(slot, None)
        self.changes.count += 1


class Publisher:
    """Sends the frames of the rooms of one table; `refused` is told of gateways that took none."""

    def __init__(
        self, table: RoomTable, rooms: RoomsBySlot, *, refused: Callable[[], None]
    ) -> None:
        self._table = table
        self._rooms = rooms
        self._changes = rooms.changes
        self._refused = refused
        self._known = NEVER
        self._rows: dict[GatewayLink, list[responses.Row]] = {}
        self._aheads: list[int] = []
        self.frame_bytes = np.zeros(table.capacity, np.int64)
        """Bytes of the frames so far of each slot, as one client in step gets them."""

    def publish(self, due: float) -> int:
        """Send every room's frame, of the tick that was due by `time.perf_counter`; the bytes of
        all."""
        deltas = self._table.deltas()
        if self._rooms.tapes:
            recording.roll(self._rooms.tapes, self._table, deltas)
        count = len(deltas)
        self.frame_bytes[:count] += np.fromiter(map(len, deltas), np.int64, count)
        if self._known == self._changes.count:
            tick = self._table.tick
            ticks = [responses.tick(tick + ahead) for ahead in self._aheads]
            batches = {
                link: attach.join_rows(rows, ticks, deltas) for link, rows in self._rows.items()
            }
            return self._send(batches, due)
        frames: dict[GatewayLink, list[responses.Frame]] = {}
        for room, data in self._room_bytes(deltas):
            tick_field = responses.tick(self._table.tick_of(room.slot))
            for link, frame in room.frames(tick_field, data):
                frames.setdefault(link, []).append(frame)
        self._known = NEVER if self._table.writer.has_views else self._changes.count
        self._plan()
        batches = {link: attach.join_frames(parts) for link, parts in frames.items()}
        return self._send(batches, due)

    def _send(self, batches: dict[GatewayLink, bytes], due: float) -> int:
        size = 0
        for link, batch in batches.items():
            size += len(batch)
            if not link.frames(batch + responses.late(time.perf_counter() - due)):
                self._refused()
                for room in self._rooms.values():
                    room.refresh_all(link)
        return size

    def _plan(self) -> None:
        """What is sent from now on, all streams being in step."""
        self._rows, self._aheads = {}, []
        for slot, room in self._rooms.items():
            ahead = self._table.tick_of(slot) - self._table.tick
            if ahead not in self._aheads:
                self._aheads.append(ahead)
            for link, route in room.routes():
                row = (room.head, self._aheads.index(ahead), slot, route)
                self._rows.setdefault(link, []).append(row)

    def _room_bytes(self, deltas: list[bytes]) -> list[tuple[HostedRoom, RoomBytes]]:
        writer = self._table.writer
        fresh = [slot for slot, room in self._rooms.items() if room.fresh]
        keys = dict(zip(fresh, writer.keyframes(fresh), strict=True)) if fresh else {}
        if not writer.has_views:
            return [
                (room, RoomBytes(deltas[slot], keys.get(slot, b"")))
                for slot, room in self._rooms.items()
            ]
        views = writer.views([room.watch() for room in self._rooms.values()])
        return [
            (room, RoomBytes(deltas[slot], keys.get(slot, b""), view))
            for (slot, room), view in zip(self._rooms.items(), views, strict=True)
        ]
