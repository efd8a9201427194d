"""Claims in Redis: one Lua script per transition, all keys of a set in one slot.

Safe to repeat: each script finds what an earlier run left. Errors are those of `kit.store`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.fleet.domain import claims
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.placement import View
from rallypoint.kit import errors, keys
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store
from rallypoint.kit.subjects import DAY_S

_PACKAGE = "rallypoint.fleet"
_SWEEP_LIMIT = 100
_ADOPT_BATCH = 1000
_MOST_UNMET = 10_000
_MOST_PENDING = 1000
UNMET_MS = 15_000
"""How long one who found no slot counts, unless asked again or served."""


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


@dataclass(frozen=True, slots=True)
class Binding:
    """A request to be tied to a set, and an epoch to be remembered as given."""

    room_id: RoomId
    set_name: SetName
    epoch: int = 0
    next_too: bool = False
    """Give the epoch after the highest, for a claim to be made: none else will have it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A new claim that somebody wants."""

    room_id: RoomId
    epoch: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A claim that waits for its room, and when it ends, in Unix seconds."""

    room_id: RoomId
    claim: Claim
    ends_s: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A claim whose room is made."""

    set_name: SetName
    room_id: RoomId
    claim: Claim


class Unbuilt(errors.Unavailable):
    """Redis does not hold the set's claims yet, or not any more: they must be rebuilt first."""

    def __init__(self, set_name: SetName) -> None:
        super().__init__(
            "CLAIMS_UNBUILT", f"the claims of set {set_name} are rebuilt", retry_after_s=0.2
        )


class Claims:
    """The claims of all sets."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        ttl_s: float,
        closing_s: float,
        moving_s: float,
        least_ttl_s: float = 0.0,
    ) -> None:
        """`least_ttl_s` is what a room may take to make: no set can have its claims go sooner."""
        self._store = store
        self._clock = clock
        self._ttl_ms = int(ttl_s * 1000)
        self._least_ms = int(least_ttl_s * 1000)
        self._closing_ms = int(closing_s * 1000)
        self._moving_ms = int(moving_s * 1000)
        self._known_sets: set[SetName] = set()
        self._bind = store.load(_PACKAGE, "bind.lua")
        self._claim = store.load(_PACKAGE, "claim_ttl.lua", "claim.lua")
        self._claim_many = store.load(_PACKAGE, "claim_ttl.lua", "claim_many.lua")
        self._pending = store.load(_PACKAGE, "claim_ttl.lua", "pending.lua")
        self._view = store.load(_PACKAGE, "view.lua")
        self._unmet = store.load(_PACKAGE, "unmet.lua")
        self._confirm = store.load(_PACKAGE, "confirm.lua")
        self._release = store.load(_PACKAGE, "release.lua")
        self._closing = store.load(_PACKAGE, "closing.lua")
        self._adopt = store.load(_PACKAGE, "adopt.lua")
        self._follow = store.load(_PACKAGE, "follow.lua")

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    async def bind(self, room_id: RoomId, set_name: SetName, *, epoch: int) -> None:
        """Tie a request to a set if it is not tied yet; remember `epoch` as given."""
        await self.bind_many([Binding(room_id, set_name, epoch)])

    async def bind_many(self, bindings: Sequence[Binding]) -> list[Bound]:
        """Tie requests to their sets, in one round trip."""
        calls = [
            self._bind.call(
                keys=[keys.fleet_bind(one.room_id)],
                args=[one.set_name, one.epoch, DAY_S, int(one.next_too)],
            )
            for one in bindings
        ]
        replies = await self._store.script_many(calls)
        return [Bound(SetName(name.decode()), int(epoch)) for name, epoch in replies]

    async def take_many(
        self,
        set_name: SetName,
        wishes: Sequence[Wish],
        *,
        candidates: Sequence[tuple[str, int]],
        spread: bool = False,
    ) -> tuple[list[Taken], list[int]]:
        """Keep the rooms' claims, or claim where it is fullest (`spread`: emptiest), in one step.

        Also returns what each candidate (place, capacity) holds now, -1 for one that takes nothing.
        Raises Unbuilt.
        """
        await self._remember(set_name)
        reply: list[Any] = await self._claim_many(
            keys=[
                *self._keys(set_name), keys.fleet_built(set_name), keys.fleet_fenced(set_name),
                keys.fleet_unmet(set_name), keys.fleet_claim_ttl(set_name),
            ],
            args=[
                self._now_ms(), self._ttl_ms, "D" if spread else "P", len(candidates),
                self._least_ms,
                *(part for pair in candidates for part in pair),
                *(part for wish in wishes for part in (wish.room_id, wish.epoch)),
            ],
        )  # fmt: skip
        if reply[0] == b"unbuilt":
            raise Unbuilt(set_name)
        answers, used = reply[1 : 1 + len(wishes)], reply[1 + len(wishes) :]
        return [_taken(answer.decode()) for answer in answers], used

    async def view(self, set_name: SetName) -> View:
        """Return what the set's servers hold."""
        used, fenced, last, unmet = await self._view(
            keys=[
                keys.fleet_used(set_name), keys.fleet_fenced(set_name), keys.fleet_last(set_name),
                keys.fleet_unmet(set_name),
            ],
            args=[self._now_ms() - UNMET_MS],
        )  # fmt: skip
        counts = zip(used[::2], used[1::2], strict=True)
        return View(
            used={place.decode(): int(count) for place, count in counts},
            fenced=frozenset(place.decode() for place in fenced),
            last=frozenset(place.decode() for place in last),
            unmet=unmet,
        )

    async def note_unmet(self, refused: Sequence[Binding]) -> list[None]:
        """Remember for a while who found no slot, so that autoscaling counts them as well."""
        by_set: dict[SetName, list[RoomId]] = {}
        for one in refused:
            by_set.setdefault(one.set_name, []).append(one.room_id)
        await self._store.script_many(
            [
                self._unmet.call(
                    keys=[keys.fleet_unmet(set_name)],
                    args=[self._now_ms(), UNMET_MS, _MOST_UNMET, *rooms],
                )
                for set_name, rooms in by_set.items()
            ]
        )
        return [None] * len(refused)

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
                *self._keys(set_name), keys.fleet_built(set_name), keys.fleet_fenced(set_name),
                keys.fleet_claim_ttl(set_name), keys.fleet_unmet(set_name),
            ],
            args=[
                room_id, self._now_ms(), self._moving_ms if moving else self._ttl_ms, epoch,
                replace.text if replace else "", int(exact), "M" if moving else "C", self._least_ms,
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
        return (await self.confirm_many([Confirmation(set_name, room_id, claim)]))[0]

    async def confirm_many(self, made: Sequence[Confirmation]) -> list[bool]:
        """`confirm` for many, in one round trip."""
        by_set: dict[SetName, list[Confirmation]] = {}
        for one in made:
            by_set.setdefault(one.set_name, []).append(one)
        calls = [
            self._confirm.call(
                keys=self._keys(set_name)[:2],
                args=[
                    part
                    for one in group
                    for part in (one.room_id, f"{one.claim.place}|{one.claim.epoch}")
                ],
            )
            for set_name, group in by_set.items()
        ]
        replies = await self._store.script_many(calls)
        held = {
            id(one): bool(kept)
            for group, reply in zip(by_set.values(), replies, strict=True)
            for one, kept in zip(group, reply, strict=True)
        }
        return [held[id(one)] for one in made]

    async def release(
        self, set_name: SetName, room_id: RoomId, *, max_epoch: int = 0, place: str = ""
    ) -> bool:
        """Give the slot back, unless the claim has a higher epoch or another place."""
        return bool(
            await self._release(keys=self._keys(set_name), args=[room_id, max_epoch, place])
        )

    async def release_many(self, closed: Sequence[tuple[SetName, RoomId, int]]) -> None:
        """Give back the slots of rooms that are over, each unless its claim has a higher epoch than
        this (0: any), in one round trip."""
        await self._store.script_many(
            [
                self._release.call(keys=self._keys(set_name), args=[room, epoch, ""])
                for set_name, room, epoch in closed
            ]
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

    async def pending(self, set_name: SetName, *, older_than_s: float) -> list[Pending]:
        """Return claims that have waited so long for their room, the oldest of them."""
        found: list[bytes] = await self._pending(
            keys=[*self._keys(set_name)[:2], keys.fleet_claim_ttl(set_name)],
            args=[
                self._now_ms(), self._ttl_ms, self._least_ms, int(older_than_s * 1000),
                _MOST_PENDING,
            ],
        )  # fmt: skip
        return [
            Pending(RoomId(room.decode()), claims.parse(text.decode()), float(ends_ms) / 1000)
            for room, text, ends_ms in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

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


def _taken(answer: str) -> Taken:
    """What `claim_many.lua` says of one room."""
    if not answer:
        return Taken(None, is_new=False)
    return Taken(claims.parse(answer[1:]), is_new=answer[0] == "N")


def _kept(room_id: RoomId) -> RoomId:
    """The name of the second claim of a room that moves; no room can have it."""
    return RoomId(f"{room_id}=next")
