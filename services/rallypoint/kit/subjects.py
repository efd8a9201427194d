"""Every NATS subject, stream, bucket and key, once, as typed functions (architecture §5).

Facts that last go to JetStream streams; heartbeats go over core NATS; leases, registrations,
ownership and configuration are keys of KV buckets. Retention: decisions §7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rallypoint.kit.names import MatchId, NodeId, QueueName, RoomId, TicketId

RoomEvent = Literal["created", "joined", "left", "closed", "migrated", "lost"]

HOUR_S = 3600
DAY_S = 24 * HOUR_S
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stream:
    """A JetStream stream with limits retention."""

    name: str
    subjects: tuple[str, ...]
    max_age_s: int
    max_bytes: int
    discard: Literal["old", "new"] = "old"
    """What happens when full: `new` refuses, so that the publisher feels it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket that keeps the last value of each key."""

    name: str
    max_bytes: int
    marker_ttl_s: int = 0
    """When set, an expired key leaves a marker this long, so that watchers see the expiry."""


TICKETS = Stream("TICKETS", ("ticket.>",), HOUR_S, 256 * _MB)
MATCHES = Stream("MATCHES", ("match.>",), HOUR_S, 256 * _MB)
ROOMS = Stream("ROOMS", ("room.>",), DAY_S, 256 * _MB)
RESULTS = Stream("RESULTS", ("result.>",), 7 * DAY_S, 1024 * _MB, discard="new")
REPLAY = Stream("REPLAY", ("replay.>",), DAY_S, 512 * _MB)
DEAD = Stream("DEAD", ("dead.>",), 7 * DAY_S, 64 * _MB)
"""What a durable worker gave up, as it was, with the reason in its headers; for people to read."""
STREAMS = (TICKETS, MATCHES, ROOMS, RESULTS, REPLAY, DEAD)

LEASES = Bucket("leases", 16 * _MB, marker_ttl_s=30)
NODES = Bucket("nodes", 64 * _MB, marker_ttl_s=30)
OWNERS = Bucket("rooms", 1024 * _MB)
CONFIG = Bucket("config", 64 * _MB)
BUCKETS = (LEASES, NODES, OWNERS, CONFIG)


def ticket(queue: QueueName, ticket_id: TicketId) -> str:
    """Return the subject of a ticket's facts."""
    return f"ticket.{queue}.{ticket_id}"


def tickets_of(queue: QueueName) -> str:
    """Return the filter for all tickets of a queue."""
    return f"ticket.{queue}.>"


def match(queue: QueueName, match_id: MatchId) -> str:
    """Return the subject of a match's fact."""
    return f"match.{queue}.{match_id}"


def room(event: RoomEvent, room_id: RoomId) -> str:
    """Return the subject of one kind of fact about a room."""
    return f"room.{event}.{room_id}"


def rooms_of(event: RoomEvent) -> str:
    """Return the filter for one kind of fact about all rooms."""
    return f"room.{event}.>"


def result(queue: QueueName) -> str:
    """Return the subject of a queue's results."""
    return f"result.{queue}"


def replay(room_id: RoomId) -> str:
    """Return the subject of a room's replay."""
    return f"replay.{room_id}"


ALL_REPLAYS = "replay.*"
REPLAY_FACTS = "Rallypoint-Replay"
"""The header with a recording's facts, for lists."""


def dead(stream: str, durable: str) -> str:
    """Return the subject of what the workers `durable` of a stream gave up."""
    return f"dead.{stream}.{durable}"


def heartbeat(node_id: NodeId) -> str:
    """Return the core subject of a node's heartbeats."""
    return f"heartbeat.{node_id}"


HEARTBEATS = "heartbeat.*"


def outbox(queue: QueueName) -> str:
    """Return the core subject that says that a queue's outbox has something."""
    return f"outbox.{queue}"


def own(room_id: RoomId) -> str:
    """Return the key (bucket rooms) that tells a room's node and epoch."""
    return f"own.{room_id}"


ALL_OWN = "own.*"


def snapshot(room_id: RoomId) -> str:
    """Return the key (bucket rooms) of a room's snapshot, fenced by `own`."""
    return f"snap.{room_id}"


def result_key(room_id: RoomId) -> str:
    """Return the key (bucket rooms) of a room's result, fenced by `own`."""
    return f"result.{room_id}"


RESULT_KEPT_S = 60
"""How long a result stays there after the end, for players whom the end did not reach."""


def code(code: str) -> str:
    """Return the key (bucket rooms) that leads from a code to its room."""
    return f"code.{code}"


ALL_CODES = "code.*"


def info(room_id: RoomId) -> str:
    """Return the key (bucket rooms) of what the list says of a room, fenced by `own`."""
    return f"info.{room_id}"


ALL_INFO = "info.*"


FILL_TTL_S = 15
"""How long a room's wish for players holds without being said again."""


def fill(queue: QueueName, room_id: RoomId) -> str:
    """Return the key (bucket rooms) of a room's wish for players of its queue."""
    return f"fill.{queue}.{room_id}"


def fills_of(queue: QueueName) -> str:
    """Return the pattern of all wishes for players of a queue."""
    return f"fill.{queue}.*"


def lease(queue: QueueName) -> str:
    """Return the key (bucket leases) of a queue's leader."""
    return f"queue.{queue}"


def node(node_id: NodeId) -> str:
    """Return the key (bucket nodes) of a node's registration."""
    return node_id


def queue(queue: QueueName) -> str:
    """Return the key (bucket config) of a queue's document."""
    return f"queue.{queue}"


ALL_QUEUES = "queue.*"


def applied(key: str) -> str:
    """Return the key (bucket config) that tells which file's content was written to `key`."""
    return f"applied.{key}"


ALL_APPLIED_QUEUES = "applied.queue.*"


def epoch(lease_name: str) -> str:
    """Return the key (bucket config) of a lease's epoch, which outlives the lease."""
    return f"epoch.{lease_name}"
