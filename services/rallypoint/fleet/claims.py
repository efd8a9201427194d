"""Claims in Redis: one Lua script per transition, all keys of a set in one slot.

Safe to repeat: each script finds what an earlier run left. Errors are those of `kit.store`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.fleet.domain import claims
from rallypoint.fleet.domain.claims import Claim
from rallypoint.kit import errors, keys
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store
from rallypoint.kit.subjects import DAY_S

_PACKAGE = "rallypoint.fleet"
_SWEEP_LIMIT = 100
_ADOPT_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Bound:
    """What a request is tied to: its set and the highest epoch given for it."""

    set_name: SetName
    epoch: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of a claim: None when every candidate is full."""

    claim: Claim | None
    is_new: bool


class Unbuilt(errors.Unavailable):
    """Redis does not hold the set's claims yet, or not any more: they must be rebuilt first."""

    def __init__(self, set_name: SetName) -> None:
        super().__init__(
            "CLAIMS_UNBUILT", f"the claims of set {set_name} are rebuilt", retry_after_s=0.2
        )


class Claims:
    """The claims of all sets."""

    def __init__(
        self, store: Store, clock: Clock, *, ttl_s: float, closing_s: float, moving_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._ttl_ms = int(ttl_s * 1000)
        self._closing_ms = int(closing_s * 1000)
        self._moving_ms = int(moving_s * 1000)
        self._known_sets: set[SetName] = set()
        self._bind = store.load(_PACKAGE, "bind.lua")
        self._claim = store.load(_PACKAGE, "claim.lua")
        self._confirm = store.load(_PACKAGE, "confirm.lua")
        self._release = store.load(_PACKAGE, "release.lua")
        self._closing = store.load(_PACKAGE, "closing.lua")
        self._adopt = store.load(_PACKAGE, "adopt.lua")
        self._follow = store.load(_PACKAGE, "follow.lua")

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    async def bind(self, room_id: RoomId, set_name: SetName, *, epoch: int = 0) -> Bound:
        """Tie a request to a set if it is not tied yet; remember `epoch` as given."""
        reply = await self._bind(keys=[keys.fleet_bind(room_id)], args=[set_name, epoch, DAY_S])
        return Bound(SetName(reply[0].decode()), int(reply[1]))

    async def take(
        self,
        set_name: SetName,
        room_id: RoomId,
        *,
        epoch: int,
        candidates: Sequence[tuple[str, int]],
        replace: Claim | None = None,
        exact: bool = False,
        moving: bool = False,
    ) -> Taken:
        """Keep the room's claim, or claim on the first candidate (place, capacity) with room.

        `replace` gives up that claim for a new one with a higher epoch; `exact` takes `epoch`
        as it is; `moving` is for a room that goes on elsewhere. Raises Unbuilt.
        """
        await self._remember(set_name)
        reply = await self._claim(
            keys=[
                *self._keys(set_name), keys.fleet_built(set_name), keys.fleet_fenced(set_name)
            ],
            args=[
                room_id, self._now_ms(), self._moving_ms if moving else self._ttl_ms, epoch,
                replace.text if replace else "", int(exact), "M" if moving else "C",
                *(part for pair in candidates for part in pair),
            ],
        )  # fmt: skip
        if reply[0] == b"unbuilt":
            raise Unbuilt(set_name)
        if reply[0] == b"full":
            return Taken(None, is_new=False)
        return Taken(claims.parse(reply[1].decode()), is_new=reply[0] == b"new")

    async def _remember(self, set_name: SetName) -> None:
        if set_name not in self._known_sets:
            await self._store.sadd(keys.FLEET_SETS, set_name)
            self._known_sets.add(set_name)

    async def confirm(self, set_name: SetName, room_id: RoomId, claim: Claim) -> bool:
        """Say that the room is made; False when the claim is another's by now."""
        reply = await self._confirm(
            keys=self._keys(set_name)[:2], args=[room_id, f"{claim.place}|{claim.epoch}"]
        )
        return bool(reply)

    async def release(
        self, set_name: SetName, room_id: RoomId, *, max_epoch: int = 0, place: str = ""
    ) -> bool:
        """Give the slot back, unless the claim has a higher epoch or another place."""
        return bool(
            await self._release(keys=self._keys(set_name), args=[room_id, max_epoch, place])
        )

    async def keep(
        self,
        set_name: SetName,
        room_id: RoomId,
        *,
        epoch: int,
        candidates: Sequence[tuple[str, int]],
    ) -> str:
        """Keep a slot for a room that shall move, until `follow` or the claim's time; its place.

        Empty when every candidate is full, or when a slot is kept elsewhere. Raises Unbuilt.
        """
        kept = _kept(room_id)
        taken = await self.take(set_name, kept, epoch=epoch, candidates=candidates)
        claim = taken.claim
        places = {place for place, _ in candidates}
        return claim.place if claim and claim.state == "C" and claim.place in places else ""

    async def unkeep(self, set_name: SetName, room_id: RoomId, place: str) -> None:
        """Give back what `keep` took."""
        await self.release(set_name, _kept(room_id), place=place)

    async def follow(self, set_name: SetName, room_id: RoomId, place: str, epoch: int) -> bool:
        """The room runs at `place` under `epoch` now: so does its claim. False if it did before."""
        return bool(
            await self._follow(
                keys=self._keys(set_name), args=[room_id, _kept(room_id), place, epoch]
            )
        )

    async def expired(self, set_name: SetName) -> list[tuple[RoomId, Claim]]:
        """Mark the claims whose time is over as being cleaned up; return them as they were.

        Raises Unbuilt when Redis does not hold the set's claims: at first and after its loss.
        """
        is_built, found = await self._mark(set_name, [])
        if not is_built:
            raise Unbuilt(set_name)
        return found

    async def closing(self, set_name: SetName, room_id: RoomId) -> Claim | None:
        """Mark one claim as being cleaned up; return it as it was, None when there is none."""
        _, found = await self._mark(set_name, [room_id])
        return found[0][1] if found else None

    async def _mark(
        self, set_name: SetName, rooms: Sequence[RoomId]
    ) -> tuple[bool, list[tuple[RoomId, Claim]]]:
        """Whether the claims are built, and those marked."""
        now = self._now_ms()
        reply: list[Any] = await self._closing(
            keys=[*self._keys(set_name)[:2], keys.fleet_built(set_name)],
            args=[now, now + self._closing_ms, _SWEEP_LIMIT, *rooms],
        )
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return bool(reply[0]), [
            (RoomId(room.decode()), claims.parse(text.decode())) for room, text in pairs
        ]

    async def adopt(self, set_name: SetName, rooms: Sequence[tuple[RoomId, str, int]]) -> int:
        """Take running rooms (room, place, epoch) in as confirmed claims, and open for new ones."""
        await self._remember(set_name)
        adopt_keys = [
            keys.fleet_claims(set_name), keys.fleet_used(set_name), keys.fleet_built(set_name)
        ]  # fmt: skip
        taken = 0
        for at in range(0, max(1, len(rooms)), _ADOPT_BATCH):
            batch = rooms[at : at + _ADOPT_BATCH]
            last = int(at + _ADOPT_BATCH >= len(rooms))
            args = [last, *(part for room in batch for part in room)]
            taken += int(await self._adopt(keys=adopt_keys, args=args))
        return taken

    async def used(self, set_name: SetName) -> Mapping[str, int]:
        """Return the slots used by place."""
        found = await self._store.hgetall(keys.fleet_used(set_name))
        return {place.decode(): int(count) for place, count in found.items()}

    async def all(self, set_name: SetName) -> dict[RoomId, Claim]:
        """Return every claim of a set."""
        found = await self._store.hgetall(keys.fleet_claims(set_name))
        return {RoomId(room.decode()): claims.parse(text.decode()) for room, text in found.items()}

    async def sets(self) -> list[SetName]:
        """Return the sets that were ever used."""
        return sorted(
            SetName(name.decode()) for name in await self._store.smembers(keys.FLEET_SETS)
        )

    @staticmethod
    def _keys(set_name: SetName) -> list[str]:
        return [
            keys.fleet_claims(set_name), keys.fleet_expiry(set_name), keys.fleet_used(set_name)
        ]  # fmt: skip


def _kept(room_id: RoomId) -> RoomId:
    """The name of the second claim of a room that moves; no room can have it."""
    return RoomId(f"{room_id}=next")
