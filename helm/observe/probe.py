"""Make the page of the probe, which has metrics of its own: `python helm/observe/probe.py`.

Series are picked by the pods' namespace, and drawn by pod; where no cluster names them, by owner.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from helm.observe import page
from helm.observe.page import PER_S, SECONDS, SHARE, SHORT, Panel

PODS = 'pod_namespace=~"$namespace"'
BY = "pod_namespace, pod_name, owner"
LEGEND = "{{pod_name}}{{owner}}"


def _tail(histogram: str, percent: int, labels: str = "") -> str:
    chosen = ", ".join(part for part in (PODS, labels) if part)
    rate = f"rate({histogram}_bucket{{{chosen}}}[$__rate_interval])"
    return f"histogram_quantile({percent / 100:g}, sum by (le, {BY}) ({rate}))"


def _rate(counter: str) -> str:
    return f"sum by ({BY}) (rate({counter}{{{PODS}}}[$__rate_interval]))"


PANELS = (
    Panel(
        "The path to players (rtt.min p50)",
        SECONDS,
        {LEGEND: _tail("rallypoint_tcp_rtt_min_seconds", 50, 'role="server"')},
        "The least round trip of each connection and second: the network, not who thinks.",
    ),
    Panel(
        "Data waits for us (receive queue p99)",
        SECONDS,
        {LEGEND: _tail("rallypoint_socket_receive_queue_duration_seconds", 99)},
        "From readable to read. High: the event loop or the CPU limit, not the network.",
    ),
    Panel(
        "Our answer (turnaround p99)",
        SECONDS,
        {LEGEND: _tail("rallypoint_socket_turnaround_duration_seconds", 99, 'role="server"')},
        "From the first unread data to the next send: queue wait and work.",
    ),
    Panel(
        "Round trip as TCP sees it (p99)",
        SECONDS,
        {LEGEND: _tail("rallypoint_tcp_rtt_seconds", 99)},
        "Holds the peer's think time and delayed ACK: compare with the path.",
    ),
    Panel(
        "Share sent again",
        SHARE,
        {
            LEGEND: f"{_rate('rallypoint_tcp_retransmits_total')} / "
            f"{_rate('rallypoint_socket_sends_total')}",
        },
    ),
    Panel(
        "Datagrams dropped, resets",
        PER_S,
        {
            f"{LEGEND} drops": _rate("rallypoint_udp_drops_total"),
            f"{LEGEND} resets": _rate("rallypoint_tcp_resets_total"),
        },
    ),
    Panel(
        "Connects (p99)", SECONDS, {LEGEND: _tail("rallypoint_tcp_connect_duration_seconds", 99)}
    ),
    Panel(
        "The probe itself",
        SHORT,
        {
            "series": "sum(rallypoint_probe_series)",
            "pods known": "sum(rallypoint_probe_pods)",
            "trouble {{kind}}": page.rate("rallypoint_probe_trouble_total", "kind"),
            "leaked": "sum(rallypoint_probe_leaked)",
        },
        "Trouble: what it could not count. Leaked must be 0.",
    ),
)


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    """As the others are drawn, with the queries as they are."""
    made = page.drawn(number, panel)
    for target, query in zip(made["targets"], panel.queries.values(), strict=True):
        target["expr"] = query
    return made


def text() -> str:
    """The file."""
    panels = [_panel(*one) for one in enumerate(PANELS)]
    made = {**page.dashboard("probe", "Sockets", ()), "panels": panels}
    (namespace,) = (v for v in made["templating"]["list"] if v["name"] == "namespace")
    namespace["query"]["query"] = "label_values(rallypoint_tcp_rtt_seconds_count, pod_namespace)"
    return page.as_text(made)


if __name__ == "__main__":
    (page.FOLDER / "probe.json").write_text(text())
