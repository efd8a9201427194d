"""What a table's ticks cost, for Prometheus and for /statusz.

Prometheus is told of some ticks at once: one by one, with all else gone from the processor's caches
in between, telling would cost as much as a small game.
"""

from typing import Final

import numpy as np

from rallypoint.games.schema import Array
from rallypoint.kit import metrics

KEPT: Final = 1024
TOLD_AT_ONCE: Final = 8


class TableMeter:
    """Counts for one table; keeps the last ticks' durations for a percentile."""

    def __init__(self, game: str) -> None:
        self._seconds = metrics.ROOM_TICK_SECONDS.labels(game)
        self._late = metrics.ROOM_TICK_LAG_SECONDS.labels(game)
        self._bytes = metrics.ROOM_FRAME_BYTES.labels(game)
        self._dropped = metrics.ROOM_TICKS_DROPPED.labels(game)
        self._rollbacks = metrics.ROOM_ROLLBACKS.labels(game)
        self._slow = metrics.ROOM_SLOW.labels(game)
        self._margin = metrics.ROOM_INPUT_MARGIN_SECONDS.labels(game)
        self._refused = metrics.ROOM_FRAMES_REFUSED
        metrics.ROOM_ENDED.labels(game, "GAME_ERROR")  # from 0: an alert sees the first one
        self._game = game
        self._recent = np.zeros(KEPT)
        self._count = 0
        self._untold: list[tuple[float, float, int]] = []
        self.late_s = 0.0
        self._rolled_back = 0

    def ticked(self, seconds: float, *, late_s: float, frame_bytes: int) -> None:
        """One wake-up's ticks."""
        self._untold.append((seconds, late_s, frame_bytes))
        if len(self._untold) >= TOLD_AT_ONCE:
            self._tell()
        self.late_s = late_s
        self._recent[self._count % KEPT] = seconds
        self._count += 1

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for seconds, late_s, frame_bytes in untold:
            self._seconds.observe(seconds)
            self._late.observe(late_s)
            self._bytes.inc(frame_bytes)

    def lost(self, *, dropped: int, rollbacks: int) -> None:
        """Ticks given up, and vectorised ticks that raised since the start."""
        if dropped:
            self._dropped.inc(dropped)
        if rollbacks != self._rolled_back:
            self._rollbacks.inc(rollbacks - self._rolled_back)
            self._rolled_back = rollbacks

    def margins(self, margins_ms: Array) -> None:
        """How early inputs come, by seat: ms plus 1, 0 for those of whom it is not known."""
        known = margins_ms[margins_ms > 0]
        if len(known):
            known.sort()  # a tenth of what np.median takes
            self._margin.observe(float(known[len(known) // 2] - 1) / 1000)

    def refused(self) -> None:
        """A gateway was too slow to take a tick's frames."""
        self._refused.inc()

    def slow(self) -> None:
        """A room was often over its tick budget."""
        self._slow.inc()

    def ended(self, reason: str) -> None:
        """A room ended."""
        metrics.ROOM_ENDED.labels(self._game, reason or "FINISHED").inc()

    def recent(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        """Seconds of the last ticks."""
        return self._recent[: min(self._count, KEPT)]
