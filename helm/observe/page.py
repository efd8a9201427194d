"""How a page of Grafana is drawn: panels, the usual queries, and the JSON of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "rallypoint" / "dashboards"
METRIC = re.compile(r"(rallypoint_[a-z0-9_]+)(?:\{([^}]*)\})?")
NAMESPACE = 'namespace=~"$namespace"'
SECONDS, PER_S, SHORT, SHARE, BYTES = "s", "ops", "short", "percentunit", "Bps"


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: queries by the legend of their lines."""

    title: str
    unit: str
    queries: Mapping[str, str]
    why: str = ""


def rate(metric: str, by: str = "") -> str:
    """A counter's rate."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[$__rate_interval]))"


def quantile(percent: int, histogram: str, by: str = "") -> str:
    """A histogram's percentile."""
    name, brace, labels = histogram.partition("{")
    labelled = f"{name}_bucket{brace}{labels}"
    keys = f"le, {by}" if by else "le"
    inner = f"sum by ({keys}) (rate({labelled}[$__rate_interval]))"
    return f"histogram_quantile({percent / 100:g}, {inner})"


def percentiles(histogram: str, by: str = "") -> dict[str, str]:
    """Its median and its tail."""
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{p}": quantile(p, histogram, by) for p in (50, 99)}


def scoped(query: str) -> str:
    """The query for the namespaces chosen at the top of the page."""

    def one(found: re.Match[str]) -> str:
        labels = [found[2], NAMESPACE] if found[2] else [NAMESPACE]
        return f"{found[1]}{{{', '.join(labels)}}}"

    return METRIC.sub(one, query)


def dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """One dashboard as Grafana imports it."""
    return {
        "uid": f"rallypoint-{name}",
        "title": f"Rallypoint: {title}",
        "tags": ["rallypoint"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _namespace()]},
        "panels": [drawn(number, panel) for number, panel in enumerate(panels)],
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _namespace() -> dict[str, Any]:
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {
            "query": "label_values(rallypoint_process_ready, namespace)",
            "refId": "namespace",
        },
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def drawn(number: int, panel: Panel) -> dict[str, Any]:
    """A panel at its place, two in a row."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.why,
        "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
            }
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": scoped(query),
                "legendFormat": legend,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def as_text(value: Mapping[str, Any]) -> str:
    """The file of a dashboard."""
    return json.dumps(value, indent=1) + "\n"
