"""Which slots are still somebody's, which are given back, and what stays of those that are.

A slot whose cgroup is gone is freed after a while: its series ends. Only the one series of all
unknown goes on, so what was counted for it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rallypoint.probe.domain import layout, series
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner

KEPT_S: Final = 60.0


class Retention:
    """Remembers since when cgroups are gone."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self._kept_s = kept_s
        self._gone: dict[int, float] = {}
        self._unknown: dict[series.SeriesKey, series.Series] = {}

    def expired(
        self, slots: Iterable[layout.Slot], exists: Callable[[int], bool], now: float
    ) -> list[layout.Slot]:
        """The slots to free now."""
        every = list(slots)
        gone = {slot.key.cgroup for slot in every if not exists(slot.key.cgroup)}
        self._gone = {cgroup: self._gone.get(cgroup, now) for cgroup in gone}
        return [s for s in every if now - self._gone.get(s.key.cgroup, now) >= self._kept_s]

    def freed(self, slot: layout.Slot, owner: Owner) -> None:
        """Keep what an unknown one counted."""
        if owner == UNKNOWN:
            (one,) = series.of_slots([slot], lambda _: UNKNOWN)
            kept = self._unknown.get(one.key)
            self._unknown[one.key] = series.added(one.key, [one, kept]) if kept else one

    def with_kept(self, found: Iterable[series.Series]) -> list[series.Series]:
        """The series of the slots that are, and what is kept of those that were."""
        whole = dict(self._unknown)
        for one in found:
            kept = whole.get(one.key)
            whole[one.key] = series.added(one.key, [one, kept]) if kept else one
        return list(whole.values())
