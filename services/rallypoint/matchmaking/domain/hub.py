"""Notices of ticket changes inside one process, pushed to whoever watches the ticket.

An inbox keeps the newest `CAPACITY` notices and drops the oldest: a watcher that missed some reads
the ticket again. Posting never waits and never fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rallypoint.matchmaking.domain.tickets import Row

CAPACITY = 16


@dataclass(frozen=True, slots=True)
class Notice:
    """A ticket came to a new row; `record` is its match as bytes when the sender had it at hand."""

    ticket_id: str
    row: Row
    record: bytes | None = None


@dataclass(slots=True, eq=False)
class Inbox:
    """The notices of one ticket for one watcher."""

    ticket_id: str
    wake: Callable[[], None]
    """Called after each notice; must not raise."""
    expire_ms: int = 0
    """When the ticket's time to live ends; 0 until its watcher has proved to be its player."""
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=CAPACITY))

    def take(self) -> Notice | None:
        """The oldest notice, or None."""
        return self.notices.popleft() if self.notices else None


class Hub:
    """Who watches what."""

    def __init__(self) -> None:
        self._inboxes: dict[str, set[Inbox]] = {}

    def __len__(self) -> int:
        return sum(len(inboxes) for inboxes in self._inboxes.values())

    def open(self, ticket_id: str, wake: Callable[[], None]) -> Inbox:
        """Watch a ticket."""
        inbox = Inbox(ticket_id, wake)
        self._inboxes.setdefault(ticket_id, set()).add(inbox)
        return inbox

    def close(self, inbox: Inbox) -> None:
        """Stop watching."""
        inboxes = self._inboxes.get(inbox.ticket_id, set())
        inboxes.discard(inbox)
        if not inboxes:
            self._inboxes.pop(inbox.ticket_id, None)

    def watched(self) -> dict[str, int]:
        """The tickets with a watcher who is their player, and when their time to live ends."""
        return {
            ticket_id: max(inbox.expire_ms for inbox in inboxes)
            for ticket_id, inboxes in self._inboxes.items()
            if any(inbox.expire_ms for inbox in inboxes)
        }

    def post(self, notice: Notice) -> None:
        """Tell the ticket's watchers."""
        for inbox in self._inboxes.get(notice.ticket_id, ()):
            inbox.notices.append(notice)
            inbox.wake()
