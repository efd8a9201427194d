"""Every Redis key, once, as typed functions.

All keys of a queue start `mm:{<queue>}:`, all of a set `fleet:{<set>}:`. The braces stay in the
key: they are the hash tag that keeps a queue or a set in one slot of a Redis Cluster.
"""

from __future__ import annotations

from rallypoint.kit.names import PlayerId, QueueName, RoomId, SetName

# --- matchmaking ---


def _mm(queue: QueueName, what: str) -> str:
    return f"mm:{{{queue}}}:{what}"


def mm_epoch(queue: QueueName) -> str:
    """STRING: the leader's epoch."""
    return _mm(queue, "epoch")


def mm_state(queue: QueueName) -> str:
    """HASH: ticket ▸ its state."""
    return _mm(queue, "state")


def mm_body(queue: QueueName) -> str:
    """HASH: ticket ▸ protobuf."""
    return _mm(queue, "body")


def mm_expiry(queue: QueueName) -> str:
    """ZSET: ticket by Unix milliseconds."""
    return _mm(queue, "exp")


def mm_player(queue: QueueName) -> str:
    """HASH: player ▸ live ticket."""
    return _mm(queue, "player")


def mm_match(queue: QueueName) -> str:
    """HASH: match ▸ its record."""
    return _mm(queue, "match")


def mm_placing(queue: QueueName) -> str:
    """SET: matches that wait for their room."""
    return _mm(queue, "placing")


def mm_outbox(queue: QueueName) -> str:
    """STREAM: facts on their way to JetStream."""
    return _mm(queue, "outbox")


def mm_queued(queue: QueueName) -> str:
    """ZSET: searching tickets by the Unix milliseconds their search started."""
    return _mm(queue, "queued")


def mm_rating(queue: QueueName, player_id: PlayerId) -> str:
    """HASH: mu, sigma and count of a player."""
    return _mm(queue, f"rating:{player_id}")


def mm_applied(queue: QueueName) -> str:
    """ZSET: matches whose result was applied, by Unix seconds."""
    return _mm(queue, "applied")


def mm_position(queue: QueueName) -> str:
    """STRING: the stream sequence of the last result applied."""
    return _mm(queue, "position")


# --- fleet ---


def _fleet(set_name: SetName, what: str) -> str:
    return f"fleet:{{{set_name}}}:{what}"


def fleet_epoch(set_name: SetName) -> str:
    """STRING: the operator's epoch."""
    return _fleet(set_name, "epoch")


def fleet_claims(set_name: SetName) -> str:
    """HASH: room ▸ `<C|R|X>|<node>|<incarnation>|<epoch>` (see fleet.domain.claims)."""
    return _fleet(set_name, "claims")


def fleet_expiry(set_name: SetName) -> str:
    """ZSET: room of a claim that is not confirmed, by the Unix milliseconds it ends at."""
    return _fleet(set_name, "expiry")


def fleet_used(set_name: SetName) -> str:
    """HASH: `<node>|<incarnation>` ▸ slots claimed or confirmed."""
    return _fleet(set_name, "used")


def fleet_built(set_name: SetName) -> str:
    """STRING: there while Redis holds the set's claims; gone after a loss of Redis."""
    return _fleet(set_name, "built")


def fleet_fenced(set_name: SetName) -> str:
    """HASH: `<node>|<incarnation>` ▸ the operator's epoch that let nobody claim there any more."""
    return _fleet(set_name, "fenced")


def fleet_last(set_name: SetName) -> str:
    """SET: `<node>|<incarnation>` of servers that are filled after all others."""
    return _fleet(set_name, "last")


def fleet_unmet(set_name: SetName) -> str:
    """ZSET: room that found no slot by the Unix milliseconds of its last try."""
    return _fleet(set_name, "unmet")


def fleet_claim_ttl(set_name: SetName) -> str:
    """STRING: milliseconds until a claim of the set that nobody confirms is free again."""
    return _fleet(set_name, "claim_ttl")


def fleet_bind(room_id: RoomId) -> str:
    """HASH: the set and the highest epoch of a request. Its own hash tag: it knows no set yet."""
    return f"fleet:bind:{{{room_id}}}"


FLEET_MIRROR = "fleet:mirror"
"""STRING: the fleet process that tells Kubernetes of claims that hang."""

FLEET_SETS = "fleet:sets"
"""SET: the sets that were ever used, so that a restarted fleet finds their claims."""


# --- gateway ---


def gw_refresh(family: str) -> str:
    """HASH: a family of refresh tokens."""
    return f"gw:{{{family}}}:refresh"
