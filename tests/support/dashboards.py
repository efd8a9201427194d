"""The queries of the chart's dashboards, and which of them had figures for an answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from tests.support.prometheus import ROOT, Prometheus

PAGES = ROOT / "helm" / "rallypoint" / "dashboards"
VARIABLES = {"$namespace": ".*", "$__rate_interval": "1m"}
ELSEWHERE = {
    "tests/integration/test_rare_figures.py": (
        "rallypoint_fleet_move_gap_", "rallypoint_fleet_recovery_",
        "rallypoint_gateway_epoch_gap_",
        "rallypoint_gateway_guard_refusals_", "rallypoint_gateway_refusals_",
        "rallypoint_room_moves_",
    ),
    "tests/kernel/test_page.py": (
        "rallypoint_probe_leaked", "rallypoint_probe_series", "rallypoint_probe_trouble_",
        "rallypoint_socket_", "rallypoint_tcp_", "rallypoint_udp_",
    ),
    "tests/kube/test_operator_process.py": ("rallypoint_kube_",),
    "tests/kube/test_probe.py": ("rallypoint_probe_pods",),
}  # fmt: skip
"""Where queries of these metrics are answered with figures; all others are in `test_dashboards`."""


class Query(NamedTuple):
    """What one line of a panel asks."""

    page: str
    panel: str
    text: str
    """As Grafana would ask it."""


def queries(page: str = "*") -> list[Query]:
    """Every query of one page, or of all."""
    found = []
    for path in sorted(PAGES.glob(f"{page}.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                text = target["expr"]
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                found.append(Query(path.stem, panel["title"], text))
    return found


def shown_by(test: str = "") -> list[Query]:
    """The queries that a test sees figures of; without a name, those of `test_dashboards`."""
    return [query for query in queries() if _shown_by(query) == test]


def _shown_by(query: Query) -> str:
    metrics = re.findall(r"rallypoint_\w+", query.text)
    found = {
        test
        for test, prefixes in ELSEWHERE.items()
        if any(metric.startswith(prefixes) for metric in metrics)
    }
    assert len(found) <= 1, query
    return next(iter(found), "")


def figures(served: Prometheus, query: str) -> list[float]:
    """What a panel would draw now: a quantile of nothing is no number, and draws nothing."""
    values = [float(line["value"][1]) for line in served.ask(query)]
    return [value for value in values if not math.isnan(value)]


class Unanswered:
    """Queries that nobody has seen figures of yet."""

    def __init__(self, wanted: Iterable[Query]) -> None:
        """At first all that are wanted."""
        self.left = list(wanted)

    def ask(self, served: Prometheus) -> bool:
        """Ask those that are left, once each; whether now all had figures."""
        self.left = [query for query in self.left if not figures(served, query.text)]
        return not self.left
