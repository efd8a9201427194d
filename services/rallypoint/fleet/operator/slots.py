"""What Redis knows of a set: slots that are used, servers that are fenced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rallypoint.fleet.claims import UNMET_MS
from rallypoint.kit import errors, keys
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import SetName
from rallypoint.kit.store import Store
from rallypoint.kit.subjects import DAY_S


@dataclass(frozen=True, slots=True)
class Look:
    """Slots used by node, claims and rooms alike, and the fenced places."""

    used: Mapping[str, int] = field(default_factory=dict)
    fenced: Mapping[str, int] = field(default_factory=dict)
    unmet: int = 0
    """Requests that found no slot lately and have none yet."""
    claim_ttl_s: float | None = None
    """How long a claim waits for its room, as allocators were told; None when they were not."""
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
    """Asks Redis, and tells allocators by it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._look = store.load("rallypoint.fleet", "look.lua")
        self._known: set[str] = set()

    async def look(self, set_name: SetName) -> Look:
        """Return what is used and fenced now."""
        try:
            await self._introduce(set_name)
            found, fenced, ttl_ms, unmet = await self._look(
                keys=[
                    keys.fleet_used(set_name), keys.fleet_fenced(set_name),
                    keys.fleet_claim_ttl(set_name), keys.fleet_unmet(set_name),
                ],
                args=[int(self._clock.now() * 1000) - UNMET_MS],
            )  # fmt: skip
        except errors.Unavailable as error:
            return Look(trouble=str(error))
        used: Counter[str] = Counter()
        for place, count in _pairs(found):
            used[node_of(place)] += count
        return Look(used, dict(_pairs(fenced)), unmet, int(ttl_ms) / 1000 if ttl_ms else None)

    async def tell_claim_ttl(self, set_name: SetName, seconds: float) -> None:
        """Have allocators give claims so much time, for a day: who looks meanwhile tells again."""
        key = keys.fleet_claim_ttl(set_name)
        await self._store.set(key, int(seconds * 1000), px_ms=DAY_S * 1000)

    async def _introduce(self, set_name: SetName) -> None:
        """Have allocators look after the set's claims, which nothing is fenced without."""
        if set_name not in self._known:
            await self._store.sadd(keys.FLEET_SETS, set_name)
            self._known.add(set_name)


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[str, int]]:
    """What HGETALL returns in Lua."""
    return ((key.decode(), int(value)) for key, value in zip(flat[::2], flat[1::2], strict=True))
