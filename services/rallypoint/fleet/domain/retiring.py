"""Letting a server go: three parties agree, each with a veto, before anything is deleted.

    operator ──fence(epoch)──▶ Redis    refuses: a room, a live claim, a higher epoch
    operator ──drain(epoch)──▶ server   refuses: a room; once it agrees it takes no more rooms
    operator ──delete(uid)───▶ API      refuses: another object of that name

Claims and fences are decided in one place (Redis, one Lua), so a claim after a granted fence fails.
Redis may forget an acknowledged claim in a failover: hence the server has the last word.

`Slots` and `Host` are models, which the model test plays against each other. `fence.lua` decides
the same with other words and knows more: it says "used" for a room as for a claim, counts claims
that ran out until they are swept, and says "unbuilt" while what Redis lost is being taken in. A
server's own part is `RoomTransferService.Retire`, by `Hosts.retire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Refusal = Literal["", "STALE_EPOCH", "OCCUPIED", "CLAIMED", "FENCED", "FULL"]
Step = Literal["fence", "drain", "delete"]


@dataclass(frozen=True, slots=True)
class Slots:
    """What Redis keeps of one server: live claims by request with their ends, rooms, the fence."""

    capacity: int
    rooms: int = 0
    claims: Mapping[str, float] = field(default_factory=dict)
    fenced_by: int = 0  # the epoch of the fence, 0 for none

    def live_claims(self, now: float) -> dict[str, float]:
        """Return the claims that have not run out."""
        return {name: end for name, end in self.claims.items() if end > now}

    def free(self, now: float) -> int:
        """Return how many more rooms fit: none behind a fence."""
        return 0 if self.fenced_by else self.capacity - self.rooms - len(self.live_claims(now))


def claim(slots: Slots, request: str, *, now: float, ttl_s: float) -> tuple[Slots, Refusal]:
    """Promise a slot; the same request again has the same promise, with its end moved on."""
    live = slots.live_claims(now)
    if request not in live and slots.free(now) <= 0:
        return slots, "FENCED" if slots.fenced_by else "FULL"
    return replace(slots, claims={**live, request: now + ttl_s}), ""


def confirm(slots: Slots, request: str, *, now: float) -> tuple[Slots, bool]:
    """Turn a live claim into a room; False when it ran out."""
    live = slots.live_claims(now)
    if live.pop(request, None) is None:
        return slots, False
    return replace(slots, claims=live, rooms=slots.rooms + 1), True


def fence(slots: Slots, *, epoch: int, set_epoch: int, now: float) -> tuple[Slots, Refusal]:
    """Take an empty server out of what may be claimed, in the name of the present leader."""
    if epoch < set_epoch:
        return slots, "STALE_EPOCH"
    if slots.rooms:
        return slots, "OCCUPIED"
    if slots.live_claims(now):
        return slots, "CLAIMED"
    return replace(slots, claims={}, fenced_by=epoch), ""


def lift(slots: Slots, *, epoch: int, set_epoch: int) -> tuple[Slots, Refusal]:
    """Take a fence back, as when the server refused to drain or is wanted after all."""
    if epoch < set_epoch:
        return slots, "STALE_EPOCH"
    return replace(slots, fenced_by=0), ""


@dataclass(frozen=True, slots=True)
class Host:
    """What the server itself knows: its rooms, and under which epoch it agreed to go."""

    rooms: frozenset[str] = frozenset()
    agreed_to: int = 0

    def create(self, room: str) -> tuple[Host, Refusal]:
        """Open a room; idempotent, and refused for good once it agreed to go."""
        if self.agreed_to and room not in self.rooms:
            return self, "FENCED"
        return replace(self, rooms=self.rooms | {room}), ""

    def close(self, room: str) -> Host:
        """End a room."""
        return replace(self, rooms=self.rooms - {room})

    def drain(self, epoch: int) -> tuple[Host, Refusal]:
        """Agree to go, if empty and the asker is not older than one before."""
        if epoch < self.agreed_to:
            return self, "STALE_EPOCH"
        if self.rooms:
            return self, "OCCUPIED"
        return replace(self, agreed_to=epoch), ""

    def resume(self, epoch: int) -> tuple[Host, Refusal]:
        """Take rooms again, for a leader that is not older than the one it agreed with."""
        if epoch < self.agreed_to:
            return self, "STALE_EPOCH"
        return replace(self, agreed_to=0), ""


def next_step(*, fenced_by: int, agreed_to: int, epoch: int) -> Step:
    """Return what a leader does next; what an older leader achieved is asked again under ours."""
    if fenced_by != epoch:
        return "fence"
    return "drain" if agreed_to != epoch else "delete"
