"""What JetStream's JSON API says and hears, as pure functions: configurations, replies, codes.

Figures: error code 10071 is "wrong last sequence", a lost compare-and-set; 10164 says the same, but
only that servers of a cluster are yet agreeing on another write which expects what this one expects
(`Busy`). 10058 is a stream of that name with another configuration, 10059 and 10014 are a missing
stream and consumer.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rallypoint.kit import errors, subjects

MSG_ID = "Nats-Msg-Id"
TTL = "Nats-TTL"
EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
ROLLUP = "Nats-Rollup"
MARKER = "Nats-Marker-Reason"
OPERATION = "KV-Operation"

DEAD_REASON = "Rallypoint-Dead-Reason"
DEAD_SUBJECT = "Rallypoint-Dead-Subject"
DEAD_SEQUENCE = "Rallypoint-Dead-Sequence"
DEAD_DELIVERIES = "Rallypoint-Dead-Deliveries"
_REASON_MAX = 200

WRONG_LAST = 10071
IN_PROCESS = 10164
NAME_IN_USE = 10058
MESSAGE_MISSING = 10037

_NANOSECONDS = 1_000_000_000
_V1_TOKENS = 9
_PLAIN_ACK = re.compile(rb'\{"stream":"[^"\\]+", ?"seq":(\d+)\}')
"""Nearly every ack, read without JSON."""
UNAVAILABLE = "BUS_UNAVAILABLE"


class Conflict(errors.FailedPrecondition):
    """A compare-and-set lost: the revision or the fence has moved on."""


class BusUnavailable(errors.Unavailable):
    """NATS or JetStream does not answer. A write may or may not have happened: read back."""

    def __init__(self, message: str) -> None:
        super().__init__(UNAVAILABLE, message, retry_after_s=1.0)


class Busy(BusUnavailable):
    """A write that a cluster looks at only when another is done: nothing happened, ask again."""


class ApiRefused(errors.Internal):
    """JetStream refused for another reason; `err_code` is its number."""

    def __init__(self, err_code: int, message: str) -> None:
        super().__init__("BUS_REFUSED", f"{message} ({err_code})")
        self.err_code = err_code


@dataclass(frozen=True, slots=True)
class Fence:
    """Write only while the last message of `subject` (same stream) has sequence `revision`."""

    subject: str
    revision: int

    def headers(self) -> dict[str, str]:
        """Return the headers that ask for it."""
        return {EXPECTED_REVISION: str(self.revision), EXPECTED_SUBJECT: self.subject}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a delivered message stands: in the stream, in its consumer, and what is behind it.

    `deliveries` counts how often it was sent to a worker, this time included.
    """

    stream_seq: int
    consumer_seq: int
    pending: int
    deliveries: int = 1


def parse_reply(data: bytes) -> dict[str, Any]:
    """Return a reply of the API, or raise Conflict, BusUnavailable or ApiRefused."""
    reply: dict[str, Any] = json.loads(data)
    error = reply.get("error")
    if error is None:
        return reply
    err_code, description = int(error.get("err_code", 0)), str(error.get("description", ""))
    if err_code == WRONG_LAST:
        raise Conflict("REVISION_CONFLICT", description)
    if err_code == IN_PROCESS:
        raise Busy(description)
    if error.get("code") == 503 or error.get("code") == 504:
        raise BusUnavailable(description)
    raise ApiRefused(err_code, description)


def parse_ack(data: bytes) -> int:
    """Return the sequence of what was stored; raises as `parse_reply`."""
    plain = _PLAIN_ACK.fullmatch(data)
    return int(plain[1] if plain else parse_reply(data)["seq"])


def parse_position(reply: str) -> Position:
    """Return what the reply subject of a delivery tells; both versions of `$JS.ACK`.

    v1: $JS.ACK.stream.consumer.delivered.sseq.cseq.time.pending. v2 has domain and account first.
    """
    tokens = reply.split(".")
    shift = 0 if len(tokens) == _V1_TOKENS else 2
    return Position(
        stream_seq=int(tokens[5 + shift]),
        consumer_seq=int(tokens[6 + shift]),
        pending=int(tokens[8 + shift]),
        deliveries=int(tokens[4 + shift]),
    )


def stream_config(stream: subjects.Stream, replicas: int) -> dict[str, Any]:
    """Return the configuration of a stream of facts."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": stream.discard,
        "max_age": stream.max_age_s * _NANOSECONDS,
        "max_bytes": stream.max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "num_replicas": replicas,
        "duplicate_window": 120 * _NANOSECONDS,
        "allow_direct": True,
    }


def bucket_stream(bucket: str) -> str:
    """Return the name of the stream of the KV bucket of this name."""
    return f"KV_{bucket}"


def bucket_config(bucket: subjects.Bucket, replicas: int) -> dict[str, Any]:
    """Return the configuration of a KV bucket's stream."""
    config: dict[str, Any] = {
        "name": bucket_stream(bucket.name),
        "subjects": [f"$KV.{bucket.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": bucket.max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "num_replicas": replicas,
        "duplicate_window": 120 * _NANOSECONDS,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": True,
    }
    if bucket.marker_ttl_s:
        config["subject_delete_marker_ttl"] = bucket.marker_ttl_s * _NANOSECONDS
    return config


def feed_config(
    *,
    filter_subject: str,
    deliver_subject: str,
    start: int | datetime.datetime | None,
    heartbeat_s: float,
    headers_only: bool = False,
) -> dict[str, Any]:
    """Return an ordered push consumer, from a sequence or a time on; `start` None: the last message
    of each subject."""
    config: dict[str, Any] = {
        "deliver_subject": deliver_subject,
        "ack_policy": "none",
        "max_deliver": 1,
        "filter_subject": filter_subject,
        "replay_policy": "instant",
        "flow_control": True,
        "idle_heartbeat": int(heartbeat_s * _NANOSECONDS),
        "inactive_threshold": 30 * _NANOSECONDS,
        "mem_storage": True,
        "num_replicas": 1,
        "deliver_policy": "last_per_subject",
    }
    if headers_only:
        config["headers_only"] = True
    if isinstance(start, datetime.datetime):
        config |= {"deliver_policy": "by_start_time", "opt_start_time": start.isoformat()}
    elif start is not None:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
    return config


def worker_config(*, durable: str, filter_subject: str, ack_wait_s: float) -> dict[str, Any]:
    """Return a durable pull consumer with explicit acks."""
    return {
        "durable_name": durable,
        "name": durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NANOSECONDS),
        "max_ack_pending": 256,
        "filter_subject": filter_subject,
        "replay_policy": "instant",
    }


def dead_headers(
    headers: Mapping[str, str], *, subject: str, position: Position, msg_id: str, reason: str
) -> dict[str, str]:
    """Return the headers of a dead letter: those of the fact, and why and where it died.

    The server's own are left out: they would ask for the effects they had at the first time.
    """
    kept = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    printable = "".join(c if c.isascii() and c.isprintable() else " " for c in reason)
    return kept | {
        MSG_ID: msg_id,
        DEAD_REASON: " ".join(printable.split())[:_REASON_MAX],
        DEAD_SUBJECT: subject,
        DEAD_SEQUENCE: str(position.stream_seq),
        DEAD_DELIVERIES: str(position.deliveries),
    }


def is_gone(headers: Mapping[str, str]) -> bool:
    """Tell whether a stored KV message says that its key was deleted, purged or has expired."""
    return headers.get(OPERATION, "") in ("DEL", "PURGE") or MARKER in headers


def parse_headers(raw: bytes) -> dict[str, str]:
    """Return the headers of a stored message (`NATS/1.0` and lines `name: value`)."""
    lines = raw.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: value.strip() for name, value in pairs}
