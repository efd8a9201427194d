"""Line plots as SVG: enough for a report, and nothing to install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 150, 70, 40, 50
COLORS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea")
POINTS_MAX = 600


@dataclass(frozen=True, slots=True)
class Line:
    """One series; all lines of a panel have the same x."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Some lines with one scale."""

    title: str
    lines: Sequence[Line]


def svg(title: str, x: Sequence[float], panels: Sequence[Panel], *, x_label: str) -> str:
    """Return a document with the panels below one another."""
    height = TOP + len(panels) * (HEIGHT + GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{_text(LEFT, 20, title, size=15)}'
    )
    parts = [
        _panel(panel, x, TOP + number * (HEIGHT + GAP), x_label)
        for number, panel in enumerate(panels)
    ]
    return "".join([head, *parts, "</svg>\n"])


def _panel(panel: Panel, x: Sequence[float], top: float, x_label: str) -> str:
    most = max((max(line.values, default=0.0) for line in panel.lines), default=0.0) or 1.0
    parts = [_text(LEFT, top + 12, panel.title)]
    bottom = top + HEIGHT
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (HEIGHT - 20)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{most * share:,.4g}", anchor="end"))
    for number, line in enumerate(panel.lines):
        color = COLORS[number % len(COLORS)]
        parts.append(_text(LEFT + 250 + number * 160, top + 12, line.name, color=color))
        parts.append(_polyline(line.values, most, bottom, color))
    span = f"{x[0]:g} to {x[-1]:g} {x_label}" if x else x_label
    parts.append(_text(LEFT + WIDTH, bottom + 16, span, anchor="end"))
    return "".join(parts)


def _polyline(values: Sequence[float], most: float, bottom: float, color: str) -> str:
    step = max(1, len(values) // POINTS_MAX)
    last = max(1, len(values) - 1)
    points = " ".join(
        f"{LEFT + WIDTH * index / last:.1f},{bottom - values[index] / most * (HEIGHT - 20):.1f}"
        for index in range(0, len(values), step)
    )
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, color: str = "#111"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">'
        f"{escape(text)}</text>"
    )
