"""Inputs held back for a room that stands still while it moves to another node.

A move takes tens of milliseconds, so nearly always everything held is passed on. Bounded all the
same: at most 64 calls per seat, none older than half a second. Every call repeats what is not
acknowledged, so the oldest is the one to give up.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Final

PER_SEAT: Final = 64
MAX_AGE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Call:
    at: float
    data: bytes


class HeldInputs:
    """Calls of one room, in order of arrival within each seat. Times are of one clock."""

    def __init__(self) -> None:
        self._seats: dict[bytes, collections.deque[_Call]] = {}
        self.given_up = 0

    def put(self, seat: bytes, data: bytes, now: float) -> None:
        """Hold a call's encoded inputs back; `seat` is any key that tells seats apart."""
        calls = self._seats.setdefault(seat, collections.deque())
        calls.append(_Call(now, data))
        while len(calls) > PER_SEAT or now - calls[0].at > MAX_AGE_S:
            calls.popleft()
            self.given_up += 1

    def take(self, now: float) -> list[bytes]:
        """Everything that is still worth sending; nothing is held afterwards."""
        found: list[bytes] = []
        for calls in self._seats.values():
            fresh = [call.data for call in calls if now - call.at <= MAX_AGE_S]
            self.given_up += len(calls) - len(fresh)
            found += fresh
        self._seats.clear()
        return found
