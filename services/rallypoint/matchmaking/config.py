"""Settings of the matchmaking service, from the environment (`RALLYPOINT_<FIELD>`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rallypoint.kit.runtime import RuntimeSettings

DEFAULT_QUEUES = """[
  {"queue": "skirmish", "game": "skirmish", "set": "local", "team_count": 8, "team_size": 1,
   "min_players": 2, "max_players": 8, "min_after_s": 4,
   "tolerance": [[0, 100], [10, 300], [30, 1000]], "ticket_ttl_s": 600,
   "unattended_s": 20, "options": {"time_limit_s": 120}},
  {"queue": "tictactoe", "game": "tictactoe", "set": "local", "team_count": 2, "team_size": 1,
   "tolerance": [[0, 200], [10, 600], [30, 2000]], "ticket_ttl_s": 600,
   "unattended_s": 20}
]"""
"""The example games' queues."""


@dataclass(frozen=True, slots=True)
class MatchmakingSettings:
    """What a matchmaking process is told."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    fleet_address: str = "127.0.0.1:9091"
    """Where AllocationService listens, host:port."""
    queues: str = DEFAULT_QUEUES
    """A JSON list of queue documents (domain/queues.py)."""
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
