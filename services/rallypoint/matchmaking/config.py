"""Settings of the matchmaking service, from the environment (`RALLYPOINT_<FIELD>`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rallypoint.kit.runtime import RuntimeSettings


@dataclass(frozen=True, slots=True)
class MatchmakingSettings:
    """What a matchmaking process is told."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    fleet_address: str = "127.0.0.1:9091"
    """Where AllocationService listens, host:port."""
    queues: tuple[str, ...] = ()
    """The queues served here, by name; none: all that have a document in the `config` bucket."""
    queue_files: Path | None = None
    """A directory of queue documents (*.json; domain/queues.py) to be written to the bucket."""
    queue_cycle_ms: int = 250
    """A queue with searchers is matched at least this often; sooner once a match may be full."""
    queue_gap_ms: int = 20
    """Cycles are at least this far apart: at high rates the batch is what buys quality."""
    ticket_retention_s: float = 600.0
    """How long an ended ticket can still be read."""
    allocate_timeout_s: float = 3.0
    """Deadline of one Allocate call."""
    allocate_patience_s: float = 10.0
    """Allocate is retried this long; then the tickets go back to the queue, first in line."""
    allocate_parallel: int = 64
    """Allocate calls under way in this process."""
