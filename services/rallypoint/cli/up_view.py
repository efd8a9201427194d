"""What `rallypoint up` shows: plain lines while starting, then one live table on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rallypoint.cli import stack

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    "service",
    "pid",
    "ready",
    "rooms",
    "players",
    "tickets",
    "tick p99",
    "backend",
    "memory",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One process as the table shows it."""

    name: str
    pid: int
    ready: bool
    restarts: int
    rss_bytes: int
    status: Mapping[str, object]

    def cells(self) -> tuple[str, ...]:
        """The cells, in the order of COLUMNS."""
        tick = self.status.get("tick_p99_ms")
        return (
            self.name,
            str(self.pid or "-"),
            self._state(),
            _shown(self.status.get("rooms")),
            _shown(self.status.get("players")),
            _shown(self._tickets()),
            f"{tick:.1f} ms" if isinstance(tick, int | float) else "",
            _shown(self.status.get("backend")),
            f"{self.rss_bytes / 1e6:.0f} MB" if self.rss_bytes else "-",
        )

    def _tickets(self) -> int | None:
        """All queues' waiting tickets."""
        queues = self.status.get("queues")
        if not isinstance(queues, Mapping):
            return None
        return sum(int(queue.get("tickets", 0)) for queue in queues.values())

    def _state(self) -> str:
        state = "yes" if self.ready else "no"
        return f"{state} (restarted {self.restarts}x)" if self.restarts else state


def line(event: stack.Event) -> str:
    """One event as a line: `  ready    fleet  0.41 s`."""
    after = f"{event.after_s:.2f} s" if event.after_s else ""
    return f"  {event.what:10} {event.name:14} {event.detail or after}".rstrip()


def say(text: str) -> None:
    """Print at once, also into a pipe; a reader that is gone is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def table(rows: list[Row], *, heading: str, news: list[str]) -> Table:
    """The live table, with the last events below."""
    from rich import box  # rich costs 60 ms: only a terminal pays
    from rich.table import Table

    shown = Table(title=heading, title_justify="left", box=box.SIMPLE, caption="\n".join(news))
    shown.caption_justify = "left"
    for number, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        style = None if row.ready else "bold red"
        shown.add_row(*row.cells(), style=style)
    return shown


def is_terminal() -> bool:
    """Whether a live table makes sense."""
    return sys.stdout.isatty()


def _shown(value: object) -> str:
    return "" if value is None else str(value)
