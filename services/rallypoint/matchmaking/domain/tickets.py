"""A ticket's life as data: which event leads from which state to which.

    QUEUED ──commit──▸ PROPOSED ──assign──▸ ASSIGNED
      │  ▴                │
      │  └────requeue─────┘
      ├──cancel──▸ CANCELLED
      └──expire──▸ EXPIRED

The Lua files beside the service do these transitions in Redis; a test holds them to this table. A
row is what Redis keeps of it: `state|seq|requeues|player|match|reason`; `seq` grows by one with
every transition.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rallypoint.kit.names import PlayerId, TicketId


class State(StrEnum):
    """Where a ticket stands; the value is the letter in Redis."""

    QUEUED = "Q"
    PROPOSED = "P"
    ASSIGNED = "A"
    CANCELLED = "C"
    EXPIRED = "E"


class Event(StrEnum):
    """What can happen to a ticket."""

    COMMIT = "commit"
    ASSIGN = "assign"
    REQUEUE = "requeue"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.QUEUED, Event.COMMIT): State.PROPOSED,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.QUEUED, Event.EXPIRE): State.EXPIRED,
    (State.PROPOSED, Event.ASSIGN): State.ASSIGNED,
    (State.PROPOSED, Event.REQUEUE): State.QUEUED,
}
"""Every pair that is not here leaves the ticket as it is."""

LIVE = frozenset({State.QUEUED, State.PROPOSED})
"""A player has at most one ticket of a queue in one of these."""


@dataclass(frozen=True, slots=True)
class Row:
    """A ticket's changing part."""

    state: State
    seq: int
    requeues: int
    player_id: PlayerId
    match_id: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """True when nothing will happen to it any more."""
        return self.state not in LIVE


def parse_row(text: str) -> Row:
    """Read a row as Redis keeps it."""
    state, seq, requeues, player_id, match_id, reason = text.split("|")
    return Row(State(state), int(seq), int(requeues), PlayerId(player_id), match_id, reason)


def ticket_id(queue: str, player_id: str, request_id: str) -> TicketId:
    """The ticket a request makes: the same request names the same ticket, for ever.

    Idempotency needs no table of requests this way. 128 bits of SHA-256 in lower-case base32; not a
    secret, since reading a ticket takes its player's session.
    """
    key = "\x00".join((queue, player_id, request_id)).encode()
    digest = hashlib.sha256(key).digest()[:16]
    return TicketId("t" + base64.b32encode(digest).decode().rstrip("=").lower())
