"""Queue documents: parsed, checked and frozen.

A document is a JSON object (decisions §9). Every key is checked here and nowhere later; an unknown
key is refused, so that a typing error never silently means a default. Wrong documents raise
`InvalidArgument` with reason `QUEUE_INVALID` and a message that names queue, key and remedy.

A ticket ends `ticket_ttl_s` after it was made, and before that once nobody has attended to it for
`unattended_s`: no open WatchTicket stream, no GetTicket or CreateTicket. Leave time for a reload
and for a gateway's restart; 0 turns it off (domain/attention.py).

With `replay` rooms are recorded, and `spectators` may watch them (docs/replay.md).

Match sizes: with `team_size` 1 everybody plays alone and a match holds any number of players from
`min_players` to `max_players`; with larger teams a match holds `team_count` teams of equal size.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.kit import errors, names

MAX_TEAM_COUNT = 64
MAX_PLAYERS = 128
MAX_STEPS = 16
MAX_SECONDS = 86_400.0
MAX_POINTS = 100_000.0
MAX_REPLAY_MB = 256
MAX_SPECTATORS = 1000
MIN_DELAY_S = 3.0
MAX_DELAY_S = 600.0


@dataclass(frozen=True, slots=True)
class Recording:
    """Keys `replay`, `replay_mb`, `spectators` and `spectate_delay_s` (docs/replay.md)."""

    max_bytes: int
    """What is kept of one room at most."""
    spectators: int
    """Spectators of one room at a time, at each gateway."""
    spectate_delay_s: float
    """How far behind the room they are."""


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """One queue."""

    queue: str
    """The name, `[a-z0-9-]{1,32}`; also the shard: its tickets are matched by one leader."""
    game: str
    """The game its rooms run."""
    set: str
    """The set of nodes its rooms are placed on."""
    team_count: int
    """Teams of a full match."""
    team_size: int
    """Players of a full team."""
    min_players: int
    """Fewest players of a match."""
    max_players: int
    """Most players of a match; also what every search starts with."""
    min_after_s: float
    """A match smaller than `max_players` is made only once somebody in it has waited this long."""
    tolerance: tuple[tuple[float, float], ...]
    """(wait in seconds, distance in displayed points), linear between, flat after the last."""
    ticket_ttl_s: float
    """A ticket that found no match ends after this."""
    unattended_s: float
    """It ends sooner when nobody has attended to it for this long; 0: it does not."""
    options: bytes
    """The game's options as JSON bytes; the core only carries them."""
    recording: Recording | None = None
    """How its rooms are recorded; None: they are not."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Allowed match sizes, largest first."""
        step = 1 if self.team_size == 1 else self.team_count
        largest = self.max_players - self.max_players % step
        return tuple(range(largest, self.min_players - 1, -step))

    def reach(self, wait_s: float) -> float:
        """How far, in displayed points, a search of this age reaches."""
        previous = self.tolerance[0]
        for step in self.tolerance[1:]:
            if wait_s < step[0]:
                share = max(0.0, wait_s - previous[0]) / (step[0] - previous[0])
                return previous[1] + share * (step[1] - previous[1])
            previous = step
        return previous[1]

    def step(self, wait_s: float) -> int:
        """How many steps of the tolerance a search of this age has passed, from 0."""
        return sum(1 for after, _ in self.tolerance[1:] if wait_s >= after)


def _invalid(queue: str, problem: str) -> errors.InvalidArgument:
    return errors.InvalidArgument("QUEUE_INVALID", f"queue {queue!r}: {problem}")


def _number(queue: str, key: str, value: Any, *, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _invalid(queue, f"{key} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def _whole(queue: str, key: str, value: Any, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _invalid(queue, f"{key} must be a whole number from {low} to {high}, not {value!r}")
    return value


def _tolerance(queue: str, value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise _invalid(queue, f"tolerance must list 1 to {MAX_STEPS} [wait_s, points] steps")
    steps: list[tuple[float, float]] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:
            raise _invalid(queue, f"tolerance step {item!r} must be [wait_s, points]")
        wait = _number(queue, "tolerance wait_s", item[0], low=0, high=MAX_SECONDS)
        points = _number(queue, "tolerance points", item[1], low=0, high=MAX_POINTS)
        steps.append((wait, points))
    if steps[0][0] != 0:
        raise _invalid(queue, "the first tolerance step must start at 0 seconds")
    for before, after in itertools.pairwise(steps):
        if after[0] <= before[0] or after[1] < before[1]:
            raise _invalid(queue, "tolerance steps must grow: later waits, never fewer points")
    return tuple(steps)


_REQUIRED = frozenset({"queue", "game"})
_OPTIONAL: Mapping[str, Any] = {
    "set": "local",
    "team_count": 2,
    "team_size": 1,
    "min_players": None,
    "max_players": None,
    "min_after_s": 0,
    "tolerance": [[0, 100], [10, 300], [30, 1000]],
    "ticket_ttl_s": 600,
    "unattended_s": 20,
    "options": {},
    "replay": False,
    "replay_mb": 32,
    "spectators": 0,
    "spectate_delay_s": 10,
}


def _keys(document: Mapping[str, Any]) -> dict[str, Any]:
    queue = str(document.get("queue", ""))
    unknown = sorted(set(document) - _REQUIRED - set(_OPTIONAL))
    if unknown:
        raise _invalid(queue, f"unknown keys {', '.join(unknown)}")
    missing = sorted(_REQUIRED - set(document))
    if missing:
        raise _invalid(queue, f"missing keys {', '.join(missing)}")
    return {**_OPTIONAL, **document}


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _invalid(str(value), f"{what} must be a text")
    return names.check_name(value, what)


def _unattended(queue: str, value: Any) -> float:
    """A shorter time than a second would end tickets at every hiccup."""
    seconds = _number(queue, "unattended_s", value, low=0, high=MAX_SECONDS)
    if 0 < seconds < 1:
        raise _invalid(queue, f"unattended_s must be 0 (off) or at least 1, not {value!r}")
    return seconds


def _recording(queue: str, values: Mapping[str, Any]) -> Recording | None:
    """Spectators see what is recorded, so there are none without a recording."""
    megabytes = _whole(queue, "replay_mb", values["replay_mb"], low=1, high=MAX_REPLAY_MB)
    spectators = _whole(queue, "spectators", values["spectators"], low=0, high=MAX_SPECTATORS)
    given = values["spectate_delay_s"]
    delay_s = _number(queue, "spectate_delay_s", given, low=MIN_DELAY_S, high=MAX_DELAY_S)
    if not isinstance(values["replay"], bool):
        raise _invalid(queue, f"replay must be true or false, not {values['replay']!r}")
    if not values["replay"]:
        if spectators:
            raise _invalid(queue, 'spectators need "replay": true')
        return None
    return Recording(megabytes * 1024 * 1024, spectators, delay_s)


def _check_sizes(config: QueueConfig) -> QueueConfig:
    if not config.min_players <= config.max_players <= config.team_count * config.team_size:
        raise _invalid(config.queue, "needs min_players <= max_players <= team_count * team_size")
    if not config.sizes or config.sizes[0] != config.max_players:
        raise _invalid(config.queue, "max_players must fill team_count equal teams")
    return config


def _options(queue: str, value: object) -> bytes:
    if not isinstance(value, dict):
        raise _invalid(queue, "options must be a JSON object")
    try:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except (ValueError, RecursionError) as error:  # NaN, or nested too deep
        raise _invalid(queue, f"options must be a JSON object: {error}") from error
    return text.encode()


def parse(document: Mapping[str, Any]) -> QueueConfig:
    """Check one document; raises `InvalidArgument` (`QUEUE_INVALID` or `NAME_INVALID`)."""
    if not isinstance(document, Mapping):
        raise _invalid("?", "a queue document must be a JSON object")
    values = _keys(document)
    queue = _name(values["queue"], "queue")
    count = _whole(queue, "team_count", values["team_count"], low=2, high=MAX_TEAM_COUNT)
    size = _whole(queue, "team_size", values["team_size"], low=1, high=MAX_PLAYERS // count)
    most = values["max_players"] if values["max_players"] is not None else count * size
    least = values["min_players"] if values["min_players"] is not None else most
    after = _number(queue, "min_after_s", values["min_after_s"], low=0, high=MAX_SECONDS)
    ttl = _number(queue, "ticket_ttl_s", values["ticket_ttl_s"], low=1, high=MAX_SECONDS)
    return _check_sizes(
        QueueConfig(
            queue=queue,
            game=_name(values["game"], "game"),
            set=_name(values["set"], "set"),
            team_count=count,
            team_size=size,
            min_players=_whole(queue, "min_players", least, low=2, high=MAX_PLAYERS),
            max_players=_whole(queue, "max_players", most, low=2, high=MAX_PLAYERS),
            min_after_s=after,
            tolerance=_tolerance(queue, values["tolerance"]),
            ticket_ttl_s=ttl,
            unattended_s=_unattended(queue, values["unattended_s"]),
            options=_options(queue, values["options"]),
            recording=_recording(queue, values),
        )
    )


def read(data: bytes) -> QueueConfig:
    """Check one document as it is stored."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("?", f"the document is not JSON: {error}") from error
    return parse(document)


def parse_all(text: str) -> Mapping[str, QueueConfig]:
    """Check a JSON list of documents; by name, at least one, no name twice."""
    try:
        documents = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid("?", f"queue documents are not JSON: {error}") from error
    if not isinstance(documents, Sequence) or isinstance(documents, str) or not documents:
        raise _invalid("?", "queue documents must be a list of at least one object")
    queues: dict[str, QueueConfig] = {}
    for document in documents:
        config = parse(document)
        if config.queue in queues:
            raise _invalid(config.queue, "named twice")
        queues[config.queue] = config
    return dict(sorted(queues.items()))
