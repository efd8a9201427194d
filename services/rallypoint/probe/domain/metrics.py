"""Every metric of the probe, declared once by its OpenTelemetry name.

Prometheus' name follows from it (`prometheus_name`). There is no agreed name for these yet
(OpenTelemetry's `system.network.tcp.*` is a proposal): this table is the one place to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """A name, a unit and what it means."""

    name: str
    unit: str
    text: str
    outcome: str = ""


HISTOGRAMS: Final[Mapping[str, Metric]] = {
    "rtt": Metric("rallypoint.tcp.rtt", "s", "Every round trip as TCP sees it"),
    "rtt_min": Metric("rallypoint.tcp.rtt.min", "s", "Least per connection and window: the path"),
    "connect": Metric("rallypoint.tcp.connect.duration", "s", "From SYN sent to established"),
    "receive_queue": Metric(
        "rallypoint.socket.receive_queue.duration", "s", "From readable to read"
    ),
    "ack": Metric("rallypoint.tcp.ack.duration", "s", "From send returned to acknowledged"),
    "turnaround": Metric(
        "rallypoint.socket.turnaround.duration", "s", "From first unread data to next send"
    ),
}
_CONNECTIONS: Final = "rallypoint.tcp.connection.count"
COUNTERS: Final[Mapping[str, Metric]] = {
    "retransmits": Metric("rallypoint.tcp.retransmits", "{segment}", "Segments sent again"),
    "resets": Metric("rallypoint.tcp.resets", "{reset}", "Resets received"),
    "aborts": Metric("rallypoint.tcp.aborts", "{connection}", "Connections cut off by a reset"),
    "established": Metric(_CONNECTIONS, "{connection}", "Connections by outcome", "established"),
    "connects_failed": Metric(_CONNECTIONS, "{connection}", "Connections by outcome", "failed"),
    "closed": Metric(_CONNECTIONS, "{connection}", "Connections by outcome", "closed"),
    "drops": Metric("rallypoint.udp.drops", "{datagram}", "Datagrams the receive buffer refused"),
    "receives": Metric("rallypoint.socket.receives", "{call}", "Reads that got something"),
    "sends": Metric("rallypoint.socket.sends", "{call}", "Sends"),
    "arrivals_untimed": Metric(
        "rallypoint.socket.receive_queue.untimed", "{message}", "A ninth unread one: not timed"
    ),
    "sends_untimed": Metric(
        "rallypoint.tcp.ack.untimed", "{message}", "A ninth unacknowledged one: not timed"
    ),
}

CALLS: Final[Mapping[tuple[str, str], Metric]] = {
    # OpenTelemetry's own names, where it has one
    ("grpc", "client"): Metric("rpc.client.call.duration", "s", "Calls of gRPC made"),
    ("grpc", "server"): Metric("rpc.server.call.duration", "s", "Calls of gRPC answered"),
    ("http2", "client"): Metric(
        "rallypoint.http2.client.call.duration", "s", "Requests of HTTP/2 made, method unknown"
    ),
    ("http2", "server"): Metric(
        "rallypoint.http2.server.call.duration", "s", "Requests of HTTP/2 answered, method unknown"
    ),
    ("dns", "client"): Metric("dns.lookup.duration", "s", "Questions of DNS asked"),
    ("dns", "server"): Metric("rallypoint.dns.answer.duration", "s", "Questions of DNS answered"),
}
UNRECOGNISED: Final = Metric(
    "rallypoint.probe.calls.unrecognised", "{event}", "What of calls could not be followed, and why"
)
FOLLOWING: Final = Metric("rallypoint.probe.calls", "1", "1 if calls are followed, else why not")
MODE: Final = Metric("rallypoint.probe.mode", "1", "1 at the step of the ladder in use")
TROUBLE: Final = Metric("rallypoint.probe.trouble", "{event}", "What the probe could not count")
RUNS: Final = Metric("rallypoint.probe.program.runs", "{run}", "Runs, while the kernel times them")
RUN_TIME: Final = Metric("rallypoint.probe.program.time", "s", "CPU time of the programs, if timed")
MISSED: Final = Metric("rallypoint.probe.program.missed", "{run}", "Runs skipped: one was going on")
LOCKED: Final = Metric("rallypoint.probe.memory", "By", "Kernel memory of maps and programs")
SERIES: Final = Metric("rallypoint.probe.series", "{series}", "Series counted now")
LEAKED: Final = Metric("rallypoint.probe.leaked", "{descriptor}", "Descriptors beyond the expected")
READ_TIME: Final = Metric("rallypoint.probe.read.duration", "s", "The last reading of all slots")
KERNEL: Final = Metric(
    "rallypoint.probe.reconciled", "{event}", "Ours and the kernel's count of the same events"
)
UPDATE: Final = Metric("rallypoint.probe.update", "1", "1 at the state of the last update")
PODS: Final = Metric("rallypoint.probe.pods", "{pod}", "Pods of the node that have names now")
CONDITIONS: Final = Metric(
    "rallypoint.probe.conditions", "{write}", "Conditions of game servers written, by outcome"
)
PUSHES: Final = Metric("rallypoint.probe.pushes", "{push}", "OTLP pushes by outcome")


def prometheus_name(metric: Metric, *, counter: bool) -> str:
    """`rallypoint.tcp.rtt` in seconds is `rallypoint_tcp_rtt_seconds`; counters end in `_total`."""
    name = metric.name.replace(".", "_")
    units = {"s": "_seconds", "By": "_bytes"}
    return name + units.get(metric.unit, "") + ("_total" if counter else "")
