"""Names of servers: `<set>-<ordinal>`, the lowest free number first, none twice.

A name made from a number makes creation idempotent: whoever creates `arena-7` again, after a lost
answer or as the next leader, meets the one that is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Reserved:
    """Numbers that are never used: ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, ordinal: int) -> bool:
        return any(first <= ordinal <= last for first, last in self.ranges)


def parse_reserved(entries: Sequence[str]) -> Reserved:
    """Return what `spec.reservedOrdinals` says; a range that runs backwards reserves nothing."""
    ranges = []
    for entry in entries:
        first, _, last = entry.partition("-")
        ranges.append((int(first), int(last or first)))
    return Reserved(tuple(sorted(one for one in ranges if one[0] <= one[1])))


def free(taken: Collection[int], reserved: Reserved, wanted: int) -> tuple[int, ...]:
    """Return the lowest numbers that nobody has."""
    known = set(taken)
    fresh: Iterator[int] = (n for n in count() if n not in known and n not in reserved)
    return tuple(next(fresh) for _ in range(wanted))


def server_name(set_name: str, ordinal: int) -> str:
    """Return the name of a server, its pod and its node."""
    return f"{set_name}-{ordinal}"
