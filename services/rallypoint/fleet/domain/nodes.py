"""Which room nodes there are and which are alive, from registrations, heartbeats and pings.

    unknown ──registered──▶ alive ──3 heartbeats missed and a ping failed──▶ dead
                              ▲  └──the same node with a new incarnation──▶ the old one is dead
                              ▲  └──its last word, at the end of a drain──▶ dead

A node whose heartbeats are missing but whose ping is answered is alive: fleet itself may be cut off
from NATS. One that beats again after its death (it was frozen) may register again; its rooms of
before are lost all the same. A lost registration only stops placement. Time comes in as an
argument, seconds of any steady clock; deaths come out as values, each told once.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Node:
    """What a node said about itself."""

    node_id: str
    incarnation: str
    address: str
    set_name: str
    games: frozenset[str]
    capacity: int
    draining: bool = False
    pod_uid: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()

    @property
    def place(self) -> str:
        """Return the node's process: `<node>|<incarnation>`."""
        return place_of(self.node_id, self.incarnation)


def place_of(node_id: str, incarnation: str) -> str:
    """Return how claims name a node's process."""
    return f"{node_id}|{incarnation}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Labels that a node must have, all of them."""

    labels: frozenset[tuple[str, str]]

    def meets(self, node: Node) -> bool:
        """Tell whether a node has them."""
        return self.labels <= node.labels


@dataclass(frozen=True, slots=True)
class Load:
    """What a heartbeat says of its node; `retired_epoch` is the leader whose end it agreed to."""

    rooms: int = 0
    players: int = 0
    retired_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A living node as last heard. `heard_at` is None before the first heartbeat."""

    node: Node
    load: Load
    heard_at: float | None
    empty_since: float | None
    """Since when it has no room; None while it has one or is not heard of yet."""
    registered: bool

    @property
    def edge(self) -> tuple[object, ...]:
        """What others need to know at once when it changes."""
        load = self.load
        full = load.rooms >= self.node.capacity
        return self.node, self.registered, load.rooms == 0, full, load.retired_epoch


@dataclass(slots=True)
class _Seen:
    node: Node
    registered: bool
    heard_at: float
    answered_at: float
    ping_failed_at: float = float("-inf")
    load: Load = Load()
    loaded_at: float | None = None
    empty_since: float | None = None

    def beat(self, load: Load, now: float) -> None:
        if load.rooms:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = now
        self.load, self.loaded_at = load, now

    def sighting(self) -> Sighting:
        return Sighting(self.node, self.load, self.loaded_at, self.empty_since, self.registered)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a silent node counts as dead, in seconds."""

    silence_s: float = 3.2
    """Three heartbeats of a second and some slack."""
    revival_s: float = 2.0
    """How long after a death a heartbeat may still be one that was on its way."""


@dataclass(slots=True)
class Registry:
    """The nodes fleet knows. Every method takes `now`; none looks at a clock."""

    limits: Limits = field(default_factory=Limits)
    version: int = 0
    """Goes up whenever other nodes than before may be usable, but for silence and time."""
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _dead: dict[str, float] = field(default_factory=dict)

    def registered(self, node: Node, now: float) -> list[Node]:
        """Take a registration; return processes that this shows to be dead."""
        known = self._seen.get(node.node_id)
        if node.place in self._dead:
            return []  # a last word from the grave: its registration lives up to 15 s more
        if known is not None and known.node.incarnation == node.incarnation:
            self.version += (known.node, known.registered) != (node, True)
            known.node, known.registered = node, True
            return []
        self.version += 1
        self._seen[node.node_id] = _Seen(node, registered=True, heard_at=now, answered_at=now)
        return self._bury(known, now)

    def withdrawn(self, node_id: str) -> None:
        """Take the loss of a registration: nothing new is placed there."""
        if node_id in self._seen:
            self._seen[node_id].registered = False
            self.version += 1

    def heard(self, node_id: str, incarnation: str, now: float) -> list[Node]:
        """Take a heartbeat; return processes that this shows to be dead."""
        return self._sign_of_life(node_id, incarnation, now=now, by_ping=False)

    def beat(self, node_id: str, incarnation: str, load: Load, now: float) -> list[Node]:
        """Take a heartbeat with what it tells; return processes that this shows to be dead."""
        dead = self.heard(node_id, incarnation, now)
        known = self._seen.get(node_id)
        if known is not None and known.node.incarnation == incarnation:
            known.beat(load, now)
        return dead

    def sighting(self, node_id: str) -> Sighting | None:
        """Return a living node as last heard."""
        known = self._seen.get(node_id)
        return None if known is None else known.sighting()

    def sightings(self, set_name: str) -> list[Sighting]:
        """Return the living nodes of a set as last heard, by id."""
        return [
            seen.sighting()
            for _, seen in sorted(self._seen.items())
            if seen.node.set_name == set_name
        ]

    def answered(self, node_id: str, incarnation: str, now: float) -> list[Node]:
        """Take the answer to a ping; return processes that this shows to be dead."""
        return self._sign_of_life(node_id, incarnation, now=now, by_ping=True)

    def stopped(self, node_id: str, incarnation: str, now: float) -> list[Node]:
        """Take a process's last word: it is dead, at once."""
        known = self._seen.get(node_id)
        if known is None or known.node.incarnation != incarnation:
            return []
        del self._seen[node_id]
        return self._bury(known, now)

    def _sign_of_life(
        self, node_id: str, incarnation: str, *, now: float, by_ping: bool
    ) -> list[Node]:
        known, place = self._seen.get(node_id), place_of(node_id, incarnation)
        if known is None and now - self._dead.get(place, now) > self.limits.revival_s:
            del self._dead[place]  # its next registration brings it back
        if known is None or place in self._dead:
            return []
        if known.node.incarnation != incarnation:
            # Somebody new has the name; its registration will bring the rest.
            del self._seen[node_id]
            return self._bury(known, now)
        if by_ping:
            known.answered_at = now
        else:
            known.heard_at = now
        return []

    def not_answered(self, node_id: str, incarnation: str, now: float) -> list[Node]:
        """Take a failed ping; return the node when it is dead now."""
        known = self._seen.get(node_id)
        if known is None or known.node.incarnation != incarnation:
            return []
        known.ping_failed_at = now
        if now - known.heard_at <= self.limits.silence_s:
            return []
        del self._seen[node_id]
        return self._bury(known, now)

    def _bury(self, known: _Seen | None, now: float) -> list[Node]:
        if known is None:
            return []
        self._dead[known.node.place] = now
        self.version += 1
        return [known.node]

    def alive(self) -> list[Node]:
        """Return the nodes not known to be dead, by id."""
        return [self._seen[node_id].node for node_id in sorted(self._seen)]

    def usable(self, set_name: str, game: str, now: float) -> list[Node]:
        """Return the nodes of a set that take a new room of `game` (empty: of any), by id."""
        return [
            seen.node
            for _, seen in sorted(self._seen.items())
            if seen.registered
            and not seen.node.draining
            and seen.node.set_name == set_name
            and (not game or game in seen.node.games or not seen.node.games)
            and self._is_fit(seen, now)
        ]

    def _is_fit(self, seen: _Seen, now: float) -> bool:
        """Tell whether the node was heard lately: a silent one gets no rooms, dead or not."""
        last = max(seen.heard_at, seen.answered_at)
        return now - last <= self.limits.silence_s and seen.ping_failed_at < last

    def find(self, node_id: str, incarnation: str) -> Node | None:
        """Return a living process."""
        known = self._seen.get(node_id)
        return known.node if known and known.node.incarnation == incarnation else None

    def find_place(self, place: str) -> Node | None:
        """Return the living process of a claim."""
        node_id, _, incarnation = place.partition("|")
        return self.find(node_id, incarnation)

    def is_dead(self, place: str) -> bool:
        """Tell whether a process is known to be dead, not merely unknown."""
        return place in self._dead

    def sets(self) -> list[str]:
        """Return the names of the sets that have a living node."""
        return sorted({seen.node.set_name for seen in self._seen.values()})

    def forget_dead(self, before: float) -> None:
        """Forget deaths older than `before`, so that the list stays short."""
        self._dead = {place: at for place, at in self._dead.items() if at >= before}

    def suspect(self, node: Node, now: float) -> None:
        """Take a failed call to a node: it gets no rooms until it is heard again."""
        known = self._seen.get(node.node_id)
        if known is not None and known.node.incarnation == node.incarnation:
            known.ping_failed_at = now
            self.version += 1
