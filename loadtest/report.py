"""The report of a run: history, plots and verdict as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from loadtest import slo
from rallypoint.cli import plot

ECHO = "input to echo"
MATCH = "time to match"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; color: #111 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f5 }
.red { color: #b91c1c; font-weight: 600 } .ok { color: #15803d }
svg { max-width: 100%; height: auto }
"""


@dataclass(slots=True)
class History:
    """One look a second; percentiles are of the last ten seconds, 0 while there are none."""

    seconds: list[float] = field(default_factory=list)
    players: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    failures_per_s: list[float] = field(default_factory=list)
    percentiles_ms: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """By name, then by percent."""

    def look(
        self,
        seconds: float,
        *,
        players: int,
        per_s: float,
        failures_per_s: float,
        percentiles_ms: Mapping[str, Mapping[int, float]],
    ) -> None:
        """Add a moment."""
        gone = len(self.seconds)
        self.seconds.append(round(seconds, 1))
        self.players.append(players)
        self.per_s.append(per_s)
        self.failures_per_s.append(failures_per_s)
        for name, by_percent in percentiles_ms.items():
            kept = self.percentiles_ms.setdefault(name, {})
            for percent, took_ms in by_percent.items():
                kept.setdefault(percent, [0.0] * gone).append(took_ms)


def panels(history: History) -> list[plot.Panel]:
    """What is drawn, from top to bottom."""
    drawn = [plot.Panel("players", [plot.Line("players", history.players)])]
    for name in (ECHO, MATCH):
        by_percent = history.percentiles_ms.get(name, {})
        lines = [plot.Line(f"p{percent}", values) for percent, values in by_percent.items()]
        if lines:
            drawn.append(plot.Panel(f"{name}, ms", lines))
    rates = [plot.Line("all", history.per_s), plot.Line("failed", history.failures_per_s)]
    return [*drawn, plot.Panel("events a second", rates)]


def html(
    title: str, history: History, *, rows: Sequence[slo.Row], checks: Sequence[slo.Check],
    errors: Iterable[tuple[str, int]], told: str = "",
) -> str:  # fmt: skip
    """Return the page; `told` is what is to be said of the load itself."""
    verdict = "green" if slo.passed(checks) else "red"
    svg = plot.svg(title, history.seconds, panels(history), x_label="s")
    color = "ok" if verdict == "green" else "red"
    wrong = [[text, str(count)] for text, count in errors] or [["none", "0"]]
    return "".join(
        (
            f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>",
            f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
            f'<p>Verdict: <span class="{color}">{verdict}</span>. {escape(told)}</p>',
            _table(["objective", "limit", "seen", ""], [_check(check) for check in checks]),
            svg,
            _table(["what", "count", "failed", "p50 ms", "p95 ms", "p99 ms"], map(_row, rows)),
            _table(["error", "times"], wrong),
        )
    )


def write(folder: Path, page: str, summary: Mapping[str, object]) -> None:
    """Write `report.html` and `summary.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _check(check: slo.Check) -> list[str]:
    seen = "nothing" if check.seen is None else f"{check.seen:g}"
    return [check.what, f"{check.limit:g}", seen, "ok" if check.passed else "RED"]


def _row(row: slo.Row) -> list[str]:
    times = [f"{row.percentiles_ms[p]:g}" if p in row.percentiles_ms else "" for p in (50, 95, 99)]
    return [f"{row.name} ({row.transport})", f"{row.count:,}", f"{row.failures:,}", *times]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
