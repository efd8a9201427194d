"""Events of the same kind about the same object become one object with a count.

The first is created at once. What repeats within `window_s` only raises a count, which is written
at most every `quiet_s`: a loop that fails a thousand times costs the API server a few writes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from rallypoint.kube.objects import ObjectReference

Type = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Happening:
    """What a program has to say about an object."""

    regarding: ObjectReference
    type: Type
    reason: str
    action: str
    note: str

    @property
    def same(self) -> tuple[str, str, str, str, str]:
        """What two happenings share that are counted together."""
        ref = self.regarding
        return (
            ref.uid or f"{ref.namespace}/{ref.name}",
            ref.kind,
            self.type,
            self.reason,
            self.note,
        )


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last_at: float
    written_at: float


@dataclass(frozen=True, slots=True)
class Write:
    """What the API server is to be told: a new event (`count` 1), or a series that grew."""

    name: str
    count: int
    happening: Happening


class Series:
    """Which happenings were told already; bounded, the longest unheard is forgotten first."""

    def __init__(self, *, window_s: float = 360.0, quiet_s: float = 10.0, most: int = 4096) -> None:
        self._window_s, self._quiet_s, self._most = window_s, quiet_s, most
        self._known: OrderedDict[tuple[str, ...], _Series] = OrderedDict()

    def note(self, happening: Happening, *, name: str, now: float) -> Write | None:
        """Count it; return what to write. `name` is used if this begins a series."""
        known = self._known.get(happening.same)
        if known is None or now - known.last_at > self._window_s:
            self._known[happening.same] = _Series(name, 1, now, now)
            self._known.move_to_end(happening.same)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
            return Write(name, 1, happening)
        known.count += 1
        known.last_at = now
        self._known.move_to_end(happening.same)
        if now - known.written_at < self._quiet_s:
            return None
        known.written_at = now
        return Write(known.name, known.count, happening)
