"""The dashboard of the probe draws what the probe tells."""

from __future__ import annotations

import re

from helm.observe import page as drawn
from helm.observe import probe as page
from tests.unit.probe.test_export import one

from rallypoint.probe.domain import exposition, layout, metrics, own

SELF = ((metrics.SERIES, False), (metrics.PODS, False), (metrics.LEAKED, False),
        (metrics.TROUBLE, True))  # fmt: skip


def told() -> set[str]:
    """Every name of a scrape in which everything happened, and every label."""
    busy = one(rtt=(100,), **dict.fromkeys(layout.COUNTERS, 1))
    busy.histograms.update(dict.fromkeys(layout.HISTOGRAMS, busy.histograms["rtt"]))  # type: ignore[attr-defined]
    points = [own.Point(metric, 1, (("kind", "stale"),), counter) for metric, counter in SELF]
    text = exposition.text([busy], points)
    return set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))


def test_every_query_names_what_there_is() -> None:
    assert (drawn.FOLDER / "probe.json").read_text() == page.text(), (
        "run python helm/observe/probe.py"
    )
    queries = [query for panel in page.PANELS for query in panel.queries.values()]
    assert {n for query in queries for n in re.findall(r"rallypoint_\w+", query)} <= told()
