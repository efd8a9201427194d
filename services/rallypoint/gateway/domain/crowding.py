"""Which connections of an address are too many: those that came last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Crowd:
    """Who is there, in the order in which they were first seen."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, str] = {}

    def look(self, present: Mapping[int, str]) -> set[int]:
        """Take who is there now, each with its address; who of them is one too many."""
        known = {one: address for one, address in self._known.items() if one in present}
        self._known = {**known, **present}
        counts: Counter[str] = Counter()
        excess = set()
        for one, address in self._known.items():
            counts[address] += 1
            if counts[address] > self._most:
                excess.add(one)
        return excess
