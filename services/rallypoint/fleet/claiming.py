"""Which server a new room gets: many requests share one look and one step in Redis.

What servers hold is looked at now and then (`LOOK_S`), not per claim; of what was seen the best few
are offered to the Lua script, which takes the fullest of them as they are at that very moment.
Its answer brings the view up to date. Only when none of them has room it is looked anew, so
"full" is always said of what was just seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rallypoint.fleet.batching import Batcher, Later
from rallypoint.fleet.claims import Claims, Taken, Wish
from rallypoint.fleet.domain.nodes import Node, Registry, Selector
from rallypoint.fleet.domain.placement import View, shortlist
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import SetName

LOOK_S = 0.2
OFFERED = 32
SPARE = 4
_LOOKS = 8
_REMEMBERED = 64
_NOTHING = Taken(None, is_new=False)


@dataclass(frozen=True, slots=True)
class Kind:
    """What requests must have in common to be served together."""

    set_name: SetName
    game: str
    selectors: tuple[Selector, ...] = ()
    """In order; the first that some server with room meets. Empty: any server will do."""
    spread: bool = False


class _Counter:
    """The claims of one kind of request."""

    def __init__(self, kind: Kind, claims: Claims, registry: Registry, clock: Clock) -> None:
        self._kind = kind
        self._claims = claims
        self._registry = registry
        self._clock = clock
        self._seen = (-1, float("-inf"))
        """The registry's version, and when it was looked."""
        self._lists: list[dict[str, Node]] = []
        self._smallest = 1

    async def take(self, wishes: Sequence[Wish]) -> list[Taken]:
        """Claim for all; None in what is taken when no server has room."""
        taken: dict[int, Taken] = {}
        left = list(range(len(wishes)))
        for look in range(_LOOKS):
            await self._look(anew=look > 0)
            something = any(self._lists)
            left = await self._from_lists(wishes, left, taken)
            if not left or not something:
                break
        return [taken.get(number, _NOTHING) for number in range(len(wishes))]

    async def _look(self, *, anew: bool) -> None:
        version, now = self._registry.version, self._clock.monotonic()
        if not anew and self._seen[0] == version and now - self._seen[1] < LOOK_S:
            return
        view = await self._claims.view(self._kind.set_name)
        usable = self._registry.usable(self._kind.set_name, self._kind.game, now)
        self._lists = [
            self._listed([node for node in usable if selector.meets(node)], view)
            for selector in self._kind.selectors
        ] or [self._listed(usable, view)]
        self._smallest = min((node.capacity for node in usable), default=1)
        self._seen = (version, now)

    def _listed(self, nodes: Sequence[Node], view: View) -> dict[str, Node]:
        best = shortlist(nodes, view, most=OFFERED, spread=self._kind.spread)
        return {node.place: node for node in best}

    async def _from_lists(
        self, wishes: Sequence[Wish], left: list[int], taken: dict[int, Taken]
    ) -> list[int]:
        """Try the lists in order, the last one even if empty: a claim may be there already."""
        for number, listed in enumerate(self._lists):
            is_last = number == len(self._lists) - 1
            while left and (listed or is_last):
                offered = self._first(listed, len(left))
                answers, used = await self._claims.take_many(
                    self._kind.set_name,
                    [wishes[at] for at in left],
                    candidates=[(node.place, node.capacity) for node in offered],
                    spread=self._kind.spread,
                )
                self._note(listed, offered, used)
                taken |= {at: one for at, one in zip(left, answers, strict=True) if one.claim}
                left = [at for at in left if at not in taken]
                if not listed or not any(node.place not in listed for node in offered):
                    break
        return left

    def _first(self, listed: dict[str, Node], rooms: int) -> list[Node]:
        """As many of the best as should have room for so many, and some more."""
        most = OFFERED if self._kind.spread else rooms // self._smallest + SPARE
        return list(itertools.islice(listed.values(), min(most, OFFERED)))

    def _note(self, listed: dict[str, Node], offered: list[Node], used: Sequence[int]) -> None:
        """Offer no more what is full or fenced."""
        for node, count in zip(offered, used, strict=True):
            if not 0 <= count < node.capacity:
                del listed[node.place]
        if not listed:
            self._seen = (-1, float("-inf"))


class Claiming:
    """Claims slots for new rooms."""

    def __init__(self, claims: Claims, registry: Registry, clock: Clock, *, later: Later) -> None:
        self._claims = claims
        self._registry = registry
        self._clock = clock
        self._later = later
        self._batchers: dict[Kind, Batcher[Wish, Taken]] = {}

    async def take(self, kind: Kind, wish: Wish) -> Taken:
        """Keep the room's claim or make one; raises Unbuilt, and what the store raises."""
        batcher = self._batchers.pop(kind, None)
        if batcher is None:
            counter = _Counter(kind, self._claims, self._registry, self._clock)
            batcher = Batcher(counter.take, later=self._later, name=f"claim.{kind.set_name}")
        self._batchers[kind] = batcher  # the last one used is the last one forgotten
        if len(self._batchers) > _REMEMBERED:
            self._batchers.pop(next(iter(self._batchers)))
        return await batcher(wish)
