"""A Locust worker's swarm: starts it, passes commands on, adds its reports to the statistics.

Reports go in as whole entries, the way a master adds those of its workers: one call per input would
cost Locust more than playing costs the swarm.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gevent
from gevent import event, subprocess
from locust.stats import RequestStats, StatsEntry, StatsError, bucket_response_time

from loadtest import slo

ROOT = Path(__file__).resolve().parents[1]
REST_WITHIN_S = 12.0
FEW_REPORTS = 20

logger = logging.getLogger("swarm")


class Swarm:
    """The process with the players of this worker."""

    def __init__(
        self, spec: Mapping[str, Any], stats: RequestStats, failed: Callable[[], None]
    ) -> None:
        """`failed` is called when the process ends without having been asked to."""
        python = os.environ.get("RALLYPOINT_PYTHON") or str(ROOT / ".venv" / "bin" / "python")
        command = [python, "-m", "loadtest.swarm", json.dumps(spec)]
        self._stats = stats
        self._failed = failed
        self._closing = False
        self._rested = event.Event()
        self._told_busy = False
        self._reports, self._busy = 0, 0.0  # with players; how busy it was in them, summed
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reader = gevent.spawn(self._read)

    def say(self, do: str, **fields: object) -> None:
        """Send one command; nothing when the process is gone, which `failed` has told."""
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._rested.set()

    def rest(self) -> None:
        """Have all players leave and their last report counted."""
        self._rested.clear()
        self.say("rest")
        if not self._rested.wait(REST_WITHIN_S):
            logger.warning("the swarm did not come to rest within %s s", REST_WITHIN_S)

    def close(self) -> None:
        """End the process."""
        self._closing = True
        try:
            self._process.stdin.close()
            self._process.wait(REST_WITHIN_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._reader.kill()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            message = json.loads(line)
            if message["event"] == "report":
                add(self._stats, message)
                self._look(message)
            elif message["event"] == "rested":
                self._rested.set()
        self._rested.set()
        if not self._closing:
            logger.error("the swarm ended by itself, exit code %s", self._process.wait())
            self._failed()

    def _look(self, report: Mapping[str, Any]) -> None:
        """Say once when the figures are the load's own, not the servers'."""
        if report["players"]:
            self._reports, self._busy = self._reports + 1, self._busy + report["busy"]
        if self._told_busy or self._reports < FEW_REPORTS or self.mean_busy <= slo.BUSY:
            return
        self._told_busy = True
        logger.warning("the swarm takes %.0f %% of a core: see --processes", 100 * self.mean_busy)

    @property
    def mean_busy(self) -> float:
        """The share of a core it has taken so far."""
        return self._busy / max(1, self._reports)


def add(stats: RequestStats, report: Mapping[str, Any]) -> None:
    """Add one report of a swarm to the statistics."""
    now = time.time()
    for transport, name, counts in report["times"]:
        _extend(stats, _entry(stats, transport, name, counts, now))
    for transport, name, reason, count in report["failures"]:
        failed = StatsEntry(stats, name, transport)
        failed.num_requests = failed.num_none_requests = failed.num_failures = count
        failed.num_reqs_per_sec = failed.num_fail_per_sec = {int(now): count}
        failed.last_request_timestamp = now
        _extend(stats, failed)
        key = StatsError.create_key(transport, name, reason)
        error = stats.errors.get(key)
        if error is None:
            error = stats.errors[key] = StatsError(transport, name, reason)
        error.occurred()
        error.occurrences += count - 1


def _entry(
    stats: RequestStats, transport: str, name: str, counts: Iterable[tuple[int, int]], now: float
) -> StatsEntry:
    entry = StatsEntry(stats, name, transport)
    for took_ms, count in counts:
        bucket = bucket_response_time(took_ms)
        entry.response_times[bucket] = entry.response_times.get(bucket, 0) + count
        entry.total_response_time += took_ms * count
        entry.num_requests += count
        least, most = entry.min_response_time, entry.max_response_time
        entry.min_response_time = took_ms if least is None else min(least, took_ms)
        entry.max_response_time = max(most, took_ms)
    entry.num_reqs_per_sec = {int(now): entry.num_requests}
    entry.last_request_timestamp = now
    return entry


def _extend(stats: RequestStats, entry: StatsEntry) -> None:
    stats.entries[entry.name, entry.method].extend(entry)
    stats.total.extend(entry)


def say_to_people(lines: Iterable[str]) -> None:
    """Print to where people look, whatever Locust's log level is."""
    print("\n".join(lines), file=sys.stderr, flush=True)
