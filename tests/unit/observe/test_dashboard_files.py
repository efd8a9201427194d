"""Dashboards, alerts and runbooks name only what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm.observe import dashboards
from prometheus_client import Counter, Gauge, Histogram
from tests.support import dashboards as seen

from rallypoint.kit import metrics

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "rallypoint"
NAME = re.compile(r"rallypoint_[a-z0-9_]+")
LABELS = re.compile(r"\bby \(([^)]*)\)|[{,]\s*(\w+)\s*(?:=~|!~|!=|=)")
SHOWN = re.compile(r"{{\s*(\w+)\s*}}")
OF_TARGETS = {"namespace", "pod", "component", "instance", "job", "le"}
"""Labels that Prometheus, or a histogram, puts on a series."""
FIRING = ("test_alerts.py", "test_dashboards.py")
FIRES = re.compile(r"fires\(served, ([^)]+)\)")
SUFFIXES = {Counter: (), Gauge: (), Histogram: ("_bucket", "_count", "_sum")}


def declared() -> dict[str, set[str]]:
    """Every name that /metrics shows, with its labels."""
    found: dict[str, set[str]] = {}
    for one in vars(metrics).values():
        if isinstance(one, Counter | Gauge | Histogram):
            name = one.describe()[0].name  # without the _total of counters
            full = f"{name}_total" if isinstance(one, Counter) else name
            names = (full, *(name + suffix for suffix in SUFFIXES[type(one)]))
            found |= {key: set(one._labelnames) for key in names}
    return found


def asked_labels(query: str) -> set[str]:
    """The labels that a query groups and filters by."""
    found = (one for pair in LABELS.findall(query) for one in ",".join(pair).split(","))
    return {one.strip() for one in found if one.strip()}


def rules() -> Iterator[dict[str, Any]]:
    document = yaml.safe_load((CHART / "alerts" / "rallypoint.yaml").read_text())
    for group in document["groups"]:
        yield from group["rules"]


def headings() -> set[str]:
    lines = (ROOT / "docs" / "runbooks" / "alerts.md").read_text().splitlines()
    return {line.removeprefix("## ") for line in lines if line.startswith("## ")}


def test_dashboards_are_those_of_the_table() -> None:
    files = {path.stem: path.read_text() for path in dashboards.FOLDER.glob("*.json")}
    assert {name: files.get(name) for name in dashboards.DASHBOARDS} == {
        name: dashboards.text(name) for name in dashboards.DASHBOARDS
    }, "run python helm/observe/dashboards.py"


@pytest.mark.parametrize("path", sorted(CHART.glob("dashboards/*.json")), ids=lambda p: p.stem)
def test_dashboard_draws_declared_metrics(path: Path) -> None:
    drawn = json.loads(path.read_text())
    queries = [target["expr"] for panel in drawn["panels"] for target in panel["targets"]]
    assert queries
    if path.stem in dashboards.DASHBOARDS:  # the probe has metrics of its own
        assert {name for query in queries for name in NAME.findall(query)} <= declared().keys()


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_queries_ask_for_labels_that_the_metrics_have(name: str) -> None:
    drawn, known = json.loads(dashboards.text(name)), declared()
    for target in (target for panel in drawn["panels"] for target in panel["targets"]):
        query = target["expr"]
        labels = OF_TARGETS.union(*(known[metric] for metric in NAME.findall(query)))
        assert asked_labels(query) <= labels, query
        assert set(SHOWN.findall(target["legendFormat"])) <= asked_labels(query), query


def test_alerts_watch_declared_metrics_by_labels_that_they_have() -> None:
    known = declared()
    for rule in rules():
        found = NAME.findall(rule["expr"])
        assert set(found) <= known.keys()
        asked = asked_labels(rule["expr"])
        assert asked <= OF_TARGETS.union(*(known[metric] for metric in found)), rule["alert"]


def test_each_alert_has_its_runbook_and_nothing_else_has() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert set(names) == headings()
    for rule in rules():
        where = f"docs/runbooks/alerts.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] == where
        assert rule["labels"]["severity"] in ("critical", "warning")


def of_made_up_series() -> set[str]:
    """The alerts that promtool sees fire."""
    found: set[str] = set()
    document = yaml.safe_load((ROOT / "helm" / "observe" / "alerts_test.yaml").read_text())
    for test in document["tests"]:
        asked = test.get("alert_rule_test", ())
        found |= {one["alertname"] for one in asked if one["exp_alerts"]}
        for one in test.get("promql_expr_test", ()):
            found |= set(re.findall(r'alertname="(\w+)"', str(one["exp_samples"])))
    return found


def of_a_running_stack() -> set[str]:
    """The alerts that breaking a stack makes fire."""
    folder = ROOT / "tests" / "integration"
    sources = [(folder / f"test_{name}.py").read_text() for name in ("alerts", "dashboards")]
    waited = " ".join(re.findall(r"await fires\((.+)\)", "".join(sources)))
    return set(re.findall(r'"(Rallypoint\w+)"', waited))


def test_each_alert_is_seen_to_fire() -> None:
    names = {rule["alert"] for rule in rules()}
    assert of_a_running_stack() == names
    assert of_made_up_series() <= names


def test_every_query_has_a_test_that_sees_figures_of_it() -> None:
    for test, prefixes in seen.ELSEWHERE.items():
        shown = " ".join(query.text for query in seen.shown_by(test))
        assert [one for one in prefixes if one not in shown] == []
        assert test in (ROOT / test).read_text()
    assert seen.shown_by()


def test_every_alert_is_made_to_fire_once() -> None:
    tests = (ROOT / "tests" / "integration" / name for name in FIRING)
    calls = " ".join(call for path in tests for call in FIRES.findall(path.read_text()))
    assert sorted(re.findall(r"\w+", calls)) == sorted(rule["alert"] for rule in rules())
