"""What Redis knows of a set: slots that are used, servers that are fenced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rallypoint.fleet.fences import Fences
from rallypoint.kit import errors, keys
from rallypoint.kit.names import SetName
from rallypoint.kit.store import Store


@dataclass(frozen=True, slots=True)
class Look:
    """Slots used by node, claims and rooms alike, and the fenced places."""

    used: Mapping[str, int] = field(default_factory=dict)
    fenced: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Why Redis could not be asked: then nobody is let go."""

    @property
    def fenced_nodes(self) -> frozenset[str]:
        """The nodes of the fenced places."""
        return frozenset(node_of(place) for place in self.fenced)


def node_of(place: str) -> str:
    """Return the node of a place."""
    return place.partition("|")[0]


class Slots:
    """Asks Redis."""

    def __init__(self, store: Store, fences: Fences) -> None:
        self._store, self._fences = store, fences
        self._known: set[str] = set()

    async def look(self, set_name: SetName) -> Look:
        """Return what is used and fenced now."""
        try:
            await self._introduce(set_name)
            found = await self._store.hgetall(keys.fleet_used(set_name))
            fenced = await self._fences.all(set_name)
        except errors.Unavailable as error:
            return Look(trouble=str(error))
        used: Counter[str] = Counter()
        for place, count in found.items():
            used[node_of(place.decode())] += int(count)
        return Look(used, fenced)

    async def _introduce(self, set_name: SetName) -> None:
        """Have allocators look after the set's claims, which nothing is fenced without."""
        if set_name not in self._known:
            await self._store.sadd(keys.FLEET_SETS, set_name)
            self._known.add(set_name)
