"""What a set's servers carry, as its autoscaling counts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rallypoint.fleet.domain.autoscaling import Load
from rallypoint.fleet.domain.set_plan import Server


def load(servers: Sequence[Server], players: Mapping[str, int], *, unmet: int = 0) -> Load:
    """Return the load of a set, `unmet` requests that found no slot included.

    Rooms on servers that leave move to others, so they count; such servers do not, as they are
    replaced besides the wanted number. A silent server keeps its rooms and takes no more: neither
    its rooms nor its place is there for anybody.
    """
    here = [s for s in servers if s.phase not in ("Terminating", "Failed")]
    lost = [s for s in here if s.phase == "Unhealthy" and not (s.drain or s.node_leaving)]
    return Load(
        rooms=sum(s.rooms for s in here),
        claimed=sum(s.claims for s in here),
        players=sum(players.get(s.name, 0) for s in here),
        unmet=unmet,
        occupied_servers=sum(s.occupied for s in here if s not in lost),
        lost_servers=len(lost),
        stuck_rooms=sum(s.rooms for s in lost),
        stuck_players=sum(players.get(s.name, 0) for s in lost),
    )
