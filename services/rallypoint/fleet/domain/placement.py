"""Where a new room goes: the fullest node that has room, ties by id, so that others stay empty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from rallypoint.fleet.domain.nodes import Node


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
