"""An auditor of the bucket `rooms`: no snapshot and no result of a lower epoch than the owner's.

It reads every change in the order of the stream. A snapshot or a result behind an `own.<room>` of a
higher epoch was written by somebody who had lost the room: the fence did not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rallypoint.internal.v1 import events_pb2, snapshot_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.bus_kv import Entry


@dataclass(slots=True)
class Auditor:
    """Follows the bucket. `violations` are sentences."""

    violations: list[str]
    owners: dict[str, int] = field(default_factory=dict)
    """The highest epoch of each room."""
    nodes: dict[str, str] = field(default_factory=dict)
    """Which node owns each room."""
    snapshots: int = 0
    results: int = 0

    async def follow(self, bus: Bus) -> None:
        """Read until cancelled."""
        async for entry in bus.kv(subjects.OWNERS.name).watch(">"):
            if entry.value is not None and entry.key:
                self.take(entry)

    def take(self, entry: Entry) -> None:
        """Look at one change."""
        kind, _, room_id = entry.key.partition(".")
        value = entry.value or b""
        match kind:
            case "own":
                owner = events_pb2.OwnRecord.FromString(value)
                self._check(room_id, owner.epoch, "owner")
                self.owners[room_id] = owner.epoch
                self.nodes[room_id] = owner.node_id
            case "snap":
                self.snapshots += 1
                epoch = snapshot_pb2.RoomSnapshot.FromString(value).epoch
                self._check(room_id, epoch, "snapshot")
            case "result":
                self.results += 1
                self._check(room_id, events_pb2.ResultFact.FromString(value).epoch, "result")

    def _check(self, room_id: str, epoch: int, what: str) -> None:
        highest = self.owners.get(room_id, 0)
        if epoch < highest:
            self.violations.append(f"{room_id}: a {what} of epoch {epoch} behind {highest}")
