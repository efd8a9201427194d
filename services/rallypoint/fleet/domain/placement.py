"""Where a new room goes: the fullest node that has room, ties by id, so that others stay empty."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from rallypoint.fleet.domain.nodes import Node


@dataclass(frozen=True, slots=True)
class View:
    """What a set's servers hold, by place, as it was a moment ago."""

    used: Mapping[str, int]
    fenced: Collection[str] = frozenset()
    """Places that take nothing more."""
    last: Collection[str] = frozenset()
    """Places that shall empty by themselves: they are filled after all others."""
    unmet: int = 0
    """Requests that found no slot lately and have none yet."""


def rank(
    nodes: Iterable[Node], used: Mapping[str, int], *, exclude: Collection[str] = ()
) -> list[Node]:
    """Return the nodes to try, best first. `used` counts slots by place; `exclude` holds places.

    Full nodes come last rather than not at all: `used` may be a moment old, the claim decides.
    """
    wanted = [node for node in nodes if node.place not in exclude and node.capacity > 0]
    return sorted(
        wanted,
        key=lambda node: (
            used.get(node.place, 0) >= node.capacity,
            node.capacity - used.get(node.place, 0),
            node.node_id,
        ),
    )


def shortlist(nodes: Iterable[Node], view: View, *, most: int, spread: bool = False) -> list[Node]:
    """Return the best nodes that have room, at most so many, best first.

    Among them the claim itself takes the fullest (`spread`: the emptiest), since it knows better;
    so those to fill last are there only when there is nothing else.
    """
    sign = -1 if spread else 1
    free = [
        (sign * (node.capacity - view.used.get(node.place, 0)), node.node_id, node)
        for node in nodes
        if node.place not in view.fenced and view.used.get(node.place, 0) < node.capacity
    ]
    preferred = [one for one in free if one[2].place not in view.last] if view.last else free
    return [node for _, _, node in heapq.nsmallest(most, preferred or free)]
