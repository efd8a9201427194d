"""Rooms that want players: which of those who search go there.

A wish is what the room's owner said last, under a revision; it is over when it is not said again in
time. Players sent there are counted against it until the room says the next one; it alone knows
what it has, and refuses one too many. Whoever was refused is not sent to that room again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

PAUSE_S = 2.0
"""After a room could not be reached nobody is sent there for so long."""


@dataclass(slots=True)
class Wish:
    """A room that wants players."""

    room_id: str
    address: str
    seats: int
    revision: int
    level: float | None = None
    """What its players' skill is on average, in displayed points; None: anybody will do."""
    sent: dict[str, int] = field(default_factory=dict)
    """Tickets counted against `seats`, and the revision they were sent at."""
    under_way: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Players whom the room did not take."""
    paused_until: float = -math.inf
    over_at: float = math.inf
    """When it is forgotten, unless the room says it again."""

    def said(self, address: str, seats: int, revision: int, *, over_at: float = math.inf) -> None:
        """Take a newer word of the room: it counts who has come."""
        self.address, self.seats, self.revision = address, seats, revision
        self.over_at = over_at
        self.sent = {ticket: at for ticket, at in self.sent.items() if ticket in self.under_way}

    def send(self, ticket_id: str) -> None:
        """A player is on the way."""
        self.sent[ticket_id] = self.revision
        self.under_way.add(ticket_id)

    def came(self, ticket_id: str) -> None:
        """The player has a seat."""
        self.under_way.discard(ticket_id)
        if self.sent.get(ticket_id, self.revision) != self.revision:
            del self.sent[ticket_id]  # the room has spoken since

    def failed(self, ticket_id: str, player_id: str, *, until: float | None) -> None:
        """The player got none: by the room's own word, or because it was out of reach `until`."""
        self.under_way.discard(ticket_id)
        self.sent.pop(ticket_id, None)
        if until is None:
            self.refused.add(player_id)
        else:
            self.paused_until = until

    def free(self, now: float) -> int:
        """How many more may be sent now."""
        if now < self.paused_until or now >= self.over_at:
            return 0
        return max(0, self.seats - len(self.sent))


@dataclass(frozen=True, slots=True)
class Searching:
    """Somebody who searches, as far as it matters here."""

    ticket_id: str
    player_id: str
    skill: float
    reach: float
    """How far, in displayed points, their search reaches by now."""


def choose(
    wishes: Iterable[Wish], searching: Iterable[Searching], now: float
) -> list[tuple[Wish, Searching]]:
    """Who goes where: those who search come first in line first, to the first room that fits."""
    free = {wish.room_id: wish.free(now) for wish in wishes}
    open_ = [wish for wish in wishes if free[wish.room_id]]
    chosen: list[tuple[Wish, Searching]] = []
    for player in searching:
        if not open_:
            break
        wish = next((wish for wish in open_ if _fits(wish, player)), None)
        if wish is None:
            continue
        chosen.append((wish, player))
        free[wish.room_id] -= 1
        if not free[wish.room_id]:
            open_.remove(wish)
    return chosen


def _fits(wish: Wish, player: Searching) -> bool:
    if player.player_id in wish.refused:
        return False
    return wish.level is None or abs(player.skill - wish.level) <= player.reach
