"""Which servers to look at again because time passed: nobody tells that somebody is silent.

Losing the broker says nothing about servers: while nobody can be heard, and for as long as it takes
to hear everybody again, the operator is `blind` and derives no phase from silence. Times are
seconds of a steady clock, given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rallypoint.fleet.domain.nodes import Sighting

COUNTS_S = 30.0


@dataclass(slots=True)
class _Noted:
    incarnation: str
    silent: bool
    counts: tuple[int, int]
    at: float


@dataclass(slots=True)
class Ears:
    """What was noted of each node at the last look."""

    listening_since: float
    settle_s: float = 5.0
    _noted: dict[str, _Noted] = field(default_factory=dict)

    def deaf(self, now: float) -> None:
        """Nobody can be heard at this moment."""
        self.listening_since = now

    def blind(self, now: float) -> bool:
        """Tell whether silence means nothing yet."""
        return now - self.listening_since < self.settle_s

    def due(self, nodes: Iterable[Sighting], now: float, *, silence_s: float) -> list[str]:
        """Return the nodes that fell silent, were found again, or whose counts were not told."""
        noted: dict[str, _Noted] = {}
        changed = []
        for one in nodes:
            name, counts = one.node.node_id, (one.load.rooms, one.load.players)
            silent = one.heard_at is None or now - one.heard_at > silence_s
            before = self._noted.get(name)
            if before is None or before.incarnation != one.node.incarnation:
                noted[name] = _Noted(one.node.incarnation, silent, counts, now)
                continue
            noted[name] = before
            stale = counts != before.counts and now - before.at >= COUNTS_S
            if silent != before.silent or stale:
                before.silent, before.counts, before.at = silent, counts, now
                changed.append(name)
        changed += self._noted.keys() - noted.keys()
        self._noted = noted
        return changed
