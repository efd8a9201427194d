"""The probe as a process of its own: scraped, pushing, without rights, leaving nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client.parser import text_string_to_metric_families
from tests.kernel import netns, rig
from tests.kernel.peer import Part
from tests.support.waiting import wait_until

from rallypoint.probe.domain import otlp

pytestmark = pytest.mark.usefixtures("namespaces")
END_S = 15
NOT_HERE = {
    "rallypoint_probe_pods", "rallypoint_tcp_resets_total", "rallypoint_tcp_retransmits_total",
    "rallypoint_udp_drops_total",
}  # fmt: skip
"""What has no series before it happens, or without pods."""


@contextlib.contextmanager
def probing(
    *, within: tuple[str, ...] = (), **settings: object
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `rallypoint probe` and the address of its metrics."""
    told = {"scope": "all", "port": 0, **settings}  # whatever pods there are
    environ = {f"RALLYPOINT_PROBE_{name.upper()}": str(value) for name, value in told.items()}
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "rallypoint", "probe"],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE, text=True, cwd=rig.ROOT,
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stdout.readline() == "mode full\n"
        yield process, process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.communicate(timeout=END_S)
    assert process.returncode == 0


def scraped(address: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in families:
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def drawn() -> set[str]:
    """The metrics of the socket dashboard."""
    text = (rig.ROOT / "helm" / "rallypoint" / "dashboards" / "probe.json").read_text()
    return set(re.findall(r"rallypoint_[a-z0-9_]+", text))


def test_a_scrape_tells_latencies_and_the_probes_own_cost(port: int) -> None:
    with probing(ports=port) as (process, address):
        rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=40))
        found = scraped(address)
        status = Path(f"/proc/{process.pid}/status").read_text()
    rtt = {labels["role"]: n for labels, n in found["rallypoint_tcp_rtt_seconds_count"]}
    assert rtt["client"] >= 40
    assert {labels["port"] for labels, _ in found["rallypoint_tcp_rtt_seconds_count"]} == {
        str(port)
    }
    assert sum(value for _, value in found["rallypoint_probe_trouble_total"]) == 0
    assert sum(value for _, value in found["rallypoint_probe_program_missed_total"]) == 0
    assert found["rallypoint_probe_leaked"] == [({}, 0)]
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert drawn() - NOT_HERE <= set(found)


def test_signals_change_the_level_of_a_running_probe(port: int) -> None:
    def told(address: str, *, level: str) -> float:
        """What it counts of some traffic once it is on a level."""
        wait_until(lambda: modes(address) == [level], f"the level {level}")
        rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=10))
        return sum(n for _, n in scraped(address).get("rallypoint_socket_receives_total", []))

    def modes(address: str) -> list[str]:
        return [labels["mode"] for labels, _ in scraped(address)["rallypoint_probe_mode"]]

    with probing(ports=port) as (process, address):
        assert told(address, level="full") == 20
        process.send_signal(signal.SIGUSR1)
        assert told(address, level="light") == 20
        process.send_signal(signal.SIGUSR2)
        assert told(address, level="full") == 40


def test_the_live_table_shows_who_waits_for_what(port: int) -> None:
    command = [sys.executable, "-m", "rallypoint", "probe", "top", "--port", str(port)]
    environ = {**os.environ, "RALLYPOINT_PROBE_SCOPE": "all", "COLUMNS": "200"}
    part = Part("serve_echo", port=port, read_late_ms=5)
    with rig.peer(part), rig.peer(Part("ask", port=port, count=1000, gap_ms=5)):
        done = subprocess.run(
            [*command, "--seconds", "2"],
            env=environ, capture_output=True, text=True, timeout=60, check=True, cwd=rig.ROOT,
        )  # fmt: skip
    assert "(mode full)" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if f"tcp/{port}" in line]
    roles = {row[row.index(f"tcp/{port}") + 1]: row for row in rows}
    assert set(roles) == {"client", "server"}
    figures = roles["server"][roles["server"].index("server") + 1 :]
    assert 4.5 < float(figures[2]) < 50  # what the reader lets it wait, by the middle of a bucket


def test_all_of_a_namespace_equals_the_kernels_counters() -> None:
    many = {"connections": 30, "count": 2}
    cut = {"port": rig.free_port(), "connections": 5}
    names = ("Tcp.ActiveOpens", "Tcp.PassiveOpens", "Tcp.EstabResets")
    with (
        rig.namespace() as alone,
        probing(within=("ip", "netns", "exec", alone), adopt_s=0) as (_, address),
        ThreadPoolExecutor(1, initializer=netns.enter, initargs=(alone,)) as inside,
    ):
        for port in (rig.free_port(), rig.free_port()):
            both = {"netns": alone, "port": port, **many}
            rig.talk(Part("serve_echo", **both), Part("ask", **both))
        rig.talk(Part("serve_cut", netns=alone, **cut), Part("knock", netns=alone, **cut))
        found = inside.submit(scraped, address).result()["rallypoint_probe_reconciled_total"]
    told: dict[str, dict[str, float]] = {"kernel": {}, "probe": {}}
    for labels, value in found:
        told[labels["source"]][labels["counter"]] = value
    assert told["kernel"] == told["probe"]
    assert [told["probe"][name] for name in names] == [66, 66, 10]  # with the scrape's own


class Collector(BaseHTTPRequestHandler):
    """Keeps what is pushed."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []
    handler = type("Handler", (Collector,), {"bodies": bodies})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/metrics", bodies
        server.shutdown()
        thread.join()


def test_slow_round_trips_are_pushed_with_the_cookie_of_their_socket(port: int) -> None:
    echo, ask = Part("serve_echo", port=port), Part("ask", port=port, count=10)
    with (
        collecting() as (endpoint, bodies),
        rig.cable(30, 30) as cable,
        probing(ports=port, otlp_endpoint=endpoint, push_s=1, slow_ms=40),
    ):
        _, asked = cable.talk(echo, ask)
    cookies = set()
    for body in bodies:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                for point in metric.exponential_histogram.data_points:
                    for exemplar in point.exemplars:
                        (told,) = exemplar.filtered_attributes
                        assert told.key == otlp.COOKIE
                        assert exemplar.as_double > 0.04
                        cookies.add(int(told.value.string_value))
    assert set(asked["cookies"]) <= cookies
    assert b"10.77" not in b"".join(bodies)


def test_a_collector_that_is_away_holds_up_nothing(port: int) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/metrics"
        with probing(ports=port, otlp_endpoint=away, push_s=1) as (_, address):
            rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=30, gap_ms=60))
            pushes = dict(
                (labels["outcome"], value)
                for labels, value in scraped(address)["rallypoint_probe_pushes_total"]
            )
    assert pushes["failed"] >= 1
    assert pushes["ok"] == 0
