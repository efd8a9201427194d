"""Fences in Redis: a server is taken out of what may be claimed before it may be let go.

Claims and fences of a set are decided in one place, one after the other: a server is claimed or
fenced, never both. It is asked itself after that (`domain.retiring` says why) and may refuse.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from rallypoint.kit import errors, keys
from rallypoint.kit.names import SetName
from rallypoint.kit.store import Store

_PACKAGE = "rallypoint.fleet"
_MOST_LAST = 5000
"""What fits in one call of Lua; the rest is filled like any other."""
Answer = Literal["fenced", "used"]


class Deposed(errors.FailedPrecondition):
    """Another leader of the set has taken over: whoever asked must stop."""

    def __init__(self, set_name: SetName, epoch: int) -> None:
        super().__init__("LEADER_DEPOSED", f"epoch {epoch} of set {set_name} is over")


class Fences:
    """The fences of all sets."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fence = store.load(_PACKAGE, "fence.lua")
        self._unfence = store.load(_PACKAGE, "unfence.lua")
        self._lead = store.load(_PACKAGE, "lead.lua")
        self._last = store.load(_PACKAGE, "last.lua")

    async def lead(self, set_name: SetName, *, known_epoch: int) -> int:
        """Begin to lead a set; `known_epoch` is the highest one that is kept elsewhere."""
        return int(await self._lead(keys=[keys.fleet_epoch(set_name)], args=[known_epoch]))

    async def fence(self, set_name: SetName, place: str, *, epoch: int) -> Answer:
        """Fence an empty server; "used" while it is claimed or has rooms. Raises Deposed."""
        reply = await self._fence(
            keys=[
                keys.fleet_used(set_name), keys.fleet_built(set_name),
                keys.fleet_epoch(set_name), keys.fleet_fenced(set_name),
            ],
            args=[place, epoch],
        )  # fmt: skip
        match reply:
            case b"fenced":
                return "fenced"
            case b"used":
                return "used"
            case b"unbuilt":
                raise errors.Unavailable(
                    "CLAIMS_UNBUILT",
                    f"the claims of set {set_name} are rebuilt: nothing is fenced meanwhile",
                    retry_after_s=0.2,
                )
        raise Deposed(set_name, epoch)

    async def lift(self, set_name: SetName, place: str, *, epoch: int) -> None:
        """Take a fence back, or forget it when its server is gone. Raises Deposed."""
        known = [keys.fleet_epoch(set_name), keys.fleet_fenced(set_name)]
        if await self._unfence(keys=known, args=[place, epoch]) != b"open":
            raise Deposed(set_name, epoch)

    async def fill_last(self, set_name: SetName, places: Collection[str]) -> None:
        """Have new rooms go to these only when no other has room: they shall empty by themselves.

        Takes the place of what was said before. A preference only, so no epoch guards it.
        """
        await self._last(keys=[keys.fleet_last(set_name)], args=sorted(places)[:_MOST_LAST])

    async def may_have_rooms(self, set_name: SetName, node_id: str) -> bool:
        """Tell whether a node that nobody hears may be claimed or played on all the same.

        As far as Redis knows, which knows nothing while claims are rebuilt: then it may.
        """
        if await self._store.get(keys.fleet_built(set_name)) is None:
            return True
        used = await self._store.hgetall(keys.fleet_used(set_name))
        return any(place.decode().partition("|")[0] == node_id for place in used)
