"""`rallypoint probe top`: a live table of what happened in the last second, per pod and port."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich import box
from rich.live import Live
from rich.table import Table

from rallypoint.probe import config, serve
from rallypoint.probe.domain import histogram, pods, series

TURN_S = 1.0
MOST_ROWS = 40
COLUMNS = (
    "who", "port", "role", "rtt.min", "rtt p50", "queue p50", "queue p99", "turnaround", "msg/s",
    "retrans", "drops",
)  # fmt: skip

Seen = Mapping[series.SeriesKey, series.Series]


def show(loaded: config.Settings, seconds: float | None) -> int:
    """Until Ctrl-C, or for some seconds."""
    end = time.monotonic() + seconds if seconds else float("inf")
    with serve.opened(loaded, adopt=True) as read, serve.named(loaded, read):
        before: Seen = {}
        with Live(_table([], read.source.mode), refresh_per_second=2) as live:
            while time.monotonic() < end:
                time.sleep(TURN_S)
                read.look()
                now = {one.key: one for one in read.series()}
                rows = sorted(series.gained(before, now), key=busiest)[:MOST_ROWS]
                live.update(
                    _table([_row(one, read.names(one.key.owner)) for one in rows], read.source.mode)
                )
                before = now
    return 0


def busiest(one: series.Series) -> tuple[int, str, int, str]:
    """Most messages first."""
    messages = one.counters["receives"] + one.counters["sends"]
    return -messages, one.key.owner.name, one.key.port, one.key.role


def _row(one: series.Series, named: pods.Named) -> list[str]:
    seen, counters = one.histograms, one.counters
    return [
        named.title or one.key.owner.name,
        f"{one.key.transport}/{one.key.port}",
        one.key.role,
        _ms(seen["rtt_min"], 0.5),
        _ms(seen["rtt"], 0.5),
        _ms(seen["receive_queue"], 0.5),
        _ms(seen["receive_queue"], 0.99),
        _ms(seen["turnaround"], 0.5),
        str(counters["receives"] + counters["sends"]),
        str(counters["retransmits"] or ""),
        str(counters["drops"] or ""),
    ]


def _ms(values: histogram.Histogram, share: float) -> str:
    return f"{values.quantile_s(share) * 1e3:.2f}" if values.count else ""


def _table(rows: list[list[str]], mode: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"sockets, last second, in ms (mode {mode})")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < 3 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
