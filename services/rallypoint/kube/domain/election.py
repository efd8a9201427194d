"""Who leads, by a Lease: what to do now, from what was seen and when.

    standing by ──lease free, or unchanged for its whole duration──▶ take it (compare-and-set)
    leading     ──every retry_s──▶ renew it
    leading     ──renew_s since the last renewal was SENT──▶ stop, before anyone may take it

Times of other machines are never compared with ours: a lease has run out when we saw no change of
it for its duration on our own clock. Since a holder counts from before it sent its renewal and all
others from after they saw it, the holder has stopped `duration_s - renew_s` before anyone begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rallypoint.kube.objects import Lease, LeaseSpec

Step = Literal["create", "take", "renew", "wait", "stop"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease lasts, when its holder gives up, and how often all of them look."""

    duration_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.renew_s < self.duration_s:
            raise ValueError("a lease needs retry_s < renew_s < duration_s")


@dataclass(slots=True)
class Candidate:
    """One process that would lead. Times are monotonic seconds of this process."""

    identity: str
    terms: Terms = Terms()
    seen: Lease | None = None
    seen_at: float = float("-inf")
    renewed_at: float | None = None

    def observe(self, lease: Lease | None, now: float) -> None:
        """Note the lease as it is; only a change starts its duration anew."""
        before = self.seen.metadata.resource_version if self.seen else None
        after = lease.metadata.resource_version if lease else None
        if before != after:
            self.seen, self.seen_at = lease, now
        if self.renewed_at is not None and (lease is None or not self._is_mine(lease)):
            self.renewed_at = None

    def next_step(self, now: float) -> Step:
        """Return what to do now."""
        if self.renewed_at is not None:
            return "renew" if self.may_write_for(now) > 0 else "stop"
        if self.seen is None:
            return "create"
        holder = self.seen.spec.holder_identity
        if not holder or self._is_mine(self.seen) or now >= self._free_at():
            return "take"
        return "wait"

    def won(self, lease: Lease, *, sent_at: float, now: float) -> None:
        """Note that a write of ours was accepted; it counts from when it was sent."""
        self.seen, self.seen_at, self.renewed_at = lease, now, sent_at

    def lost(self) -> None:
        """Lead no longer."""
        self.renewed_at = None

    def may_write_for(self, now: float) -> float:
        """Return for how long this process may write, 0 when it does not lead."""
        if self.renewed_at is None:
            return 0.0
        return max(0.0, self.renewed_at + self.terms.renew_s - now)

    def record(self, now_text: str) -> LeaseSpec:
        """Return the spec that says that we lead."""
        held = self.seen.spec if self.seen else LeaseSpec()
        mine = self.seen is not None and self._is_mine(self.seen)
        return LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=max(1, round(self.terms.duration_s)),
            acquire_time=held.acquire_time if mine else now_text,
            renew_time=now_text,
            lease_transitions=(held.lease_transitions or 0) + (0 if mine or not self.seen else 1),
        )

    def _free_at(self) -> float:
        assert self.seen is not None
        asked = self.seen.spec.lease_duration_seconds
        return self.seen_at + (self.terms.duration_s if asked is None else asked)

    def _is_mine(self, lease: Lease) -> bool:
        return lease.spec.holder_identity == self.identity
