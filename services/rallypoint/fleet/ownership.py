"""`own.<room>` in the bucket `rooms`: which process runs a room, under which epoch.

The key changes only by compare-and-set and only towards higher epochs, so its revision serves as
the fence of the room's snapshots and result.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rallypoint.fleet.domain.nodes import Node, place_of
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Conflict
from rallypoint.kit.bus_kv import Entry, Kv
from rallypoint.kit.names import RoomId, SetName

logger = logging.getLogger(__name__)

_TRIES = 4
_PREFIX = "own."


@dataclass(frozen=True, slots=True)
class Own:
    """A room's owner, with the revision that fences its writes."""

    room_id: RoomId
    set_name: SetName
    place: str
    epoch: int
    revision: int
    code: str = ""
    """What players enter the room by, if they may."""


class Ownership:
    """All `own.<room>` keys."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv

    async def get(self, room_id: RoomId) -> Own | None:
        """Return a room's owner."""
        entry = await self._kv.get(subjects.own(room_id))
        return None if entry is None else _read(entry)

    async def settle(
        self, room_id: RoomId, node: Node, epoch: int, *, code: str = "", is_new: bool = False
    ) -> Own:
        """Make `node` the owner under `epoch`; return what is owned then.

        That is another owner when one of the same or a higher epoch is there. Repeating it is
        safe, and finds what an earlier try wrote. A room keeps the code it has. `is_new` saves a
        look where there hardly is an owner yet.
        """
        for attempt in range(_TRIES):
            found = None if is_new and not attempt else await self.get(room_id)
            code = (found.code if found else "") or code
            value = _write(node, epoch, code)
            try:
                if found is None:
                    revision = await self._kv.create(subjects.own(room_id), value)
                elif found.epoch >= epoch:
                    return found
                else:
                    revision = await self._kv.update(
                        subjects.own(room_id), value, revision=found.revision
                    )
            except Conflict:
                continue
            return Own(room_id, SetName(node.set_name), node.place, epoch, revision, code)
        raise Conflict("REVISION_CONFLICT", f"own.{room_id} changes too often")

    async def purge(self, own: Own) -> bool:
        """Remove a room's owner at the revision seen; False when it has moved on."""
        try:
            await self._kv.purge(subjects.own(own.room_id), revision=own.revision)
        except Conflict:
            return False
        if own.code:
            await self._kv.purge(subjects.info(own.room_id))
            await self._kv.purge(subjects.code(own.code))
        return True

    async def all(self) -> list[Own]:
        """Return every room's owner; records that cannot be read are logged and left alone."""
        found: list[Own] = []
        for entry in await self._kv.entries(subjects.ALL_OWN):
            try:
                found.append(_read(entry))
            except errors.Internal:
                logger.error("own_malformed", extra={"key": entry.key})
        return found


def _read(entry: Entry) -> Own:
    try:
        record = events_pb2.OwnRecord.FromString(entry.value or b"")
    except DecodeError as error:
        raise errors.Internal("OWN_MALFORMED", f"{entry.key} cannot be read") from error
    return Own(
        room_id=RoomId(entry.key.removeprefix(_PREFIX)),
        set_name=SetName(record.set),
        place=place_of(record.node_id, record.incarnation),
        epoch=record.epoch,
        revision=entry.revision,
        code=record.code,
    )


def _write(node: Node, epoch: int, code: str) -> bytes:
    return events_pb2.OwnRecord(
        node_id=node.node_id,
        incarnation=node.incarnation,
        epoch=epoch,
        set=node.set_name,
        address=node.address,
        code=code,
    ).SerializeToString()
