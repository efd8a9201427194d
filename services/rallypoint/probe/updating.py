"""Update the programs of a running probe: SIGHUP begins, the canary's figures decide.

The new object is the one that the loader finds now (RALLYPOINT_PROBE_OBJECTS, or compiled from the
sources). For a while it counts for a share of the connections; then it gets all or none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from rallypoint.kit import errors
from rallypoint.probe import session
from rallypoint.probe.domain import canary, layout, metrics, own

logger = logging.getLogger(__name__)

_OF: Final = 256


class Updating:
    """The state of an update; nothing for a source that cannot swap."""

    def __init__(self, opened: session.Session | None, *, percent: int, seconds: float) -> None:
        self._session = opened
        self._of_256 = max(1, round(percent * _OF / 100))
        self._seconds = seconds
        self._due = float("inf")
        self._trouble: dict[str, int] = {}
        self._slots: list[layout.Slot] = []
        self.state = "none"
        self.reason = ""

    @property
    def running(self) -> bool:
        """True while a canary has its share."""
        return self.state == "canary"

    def begin(self) -> None:
        """Load the canary and give it its share; what cannot be loaded changes nothing."""
        if self._session is None:
            return
        slots = self._session.slots()
        if not self._done(partial(self._session.canary, None, self._of_256)):
            return
        self._slots, self._trouble = slots, self._session.totals()
        self._due = time.monotonic() + self._seconds
        self.state, self.reason = "canary", ""

    def look(self) -> None:
        """Decide, once the time is over and there is enough to go by."""
        if self._session is None or time.monotonic() < self._due:
            return
        now = self._session.totals()
        trouble = {name: now[name] - self._trouble[name] for name in now}
        opinion = canary.judge(
            canary.since(self._session.slots(), self._slots),
            trouble,
            sum(cost.instructions for cost in self._session.canary_costs()),
        )
        if opinion.verdict == "wait":
            self.reason = opinion.reason
        elif opinion.verdict == "promote":
            if self._done(self._session.promote):
                self._end("promoted", opinion.reason)
        elif self._done(self._session.rollback):
            self._end("rolled_back", opinion.reason)

    def points(self) -> list[own.Point]:
        """For the metrics."""
        told = (("state", self.state), ("reason", self.reason))
        return [own.Point(metrics.UPDATE, 1, tuple(pair for pair in told if pair[1]))]

    def _done(self, order: Callable[[], None]) -> bool:
        """Give an order; what goes wrong with it, or with the loader, ends the update alone."""
        try:
            order()
        except (errors.RallypointError, OSError) as error:
            self._end("failed", str(error))
            return False
        return True

    def _end(self, state: str, reason: str) -> None:
        self.state, self.reason, self._due = state, reason, float("inf")
        logger.warning("update %s", state, extra={"reason": reason})
