"""The page of the probe, asked of a real Prometheus that scrapes a real probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.kernel.test_exporter import probing
from tests.support import prometheus
from tests.support.dashboards import figures, shown_by
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("namespaces")
HERE = "tests/kernel/test_page.py"


def trouble(cable: rig.Cable, ports: tuple[int, int, int]) -> None:
    """All that the page draws: a long path with losses, late readers, resets, lost datagrams."""
    echoed, cut, deaf = ports
    there = {"address": rig.B_ADDRESS, "port": echoed}
    rig.talk(
        Part("serve_echo", netns=cable.server, read_late_ms=4, **there),
        Part("ask", netns=cable.client, count=60, **there),
    )
    ten = Part("serve_cut", port=cut, connections=10)
    rig.talk(ten, replace(ten, play="knock"))
    asleep = Part("serve_datagrams", port=deaf, count=0, receive_buffer=1)
    with rig.peer(asleep), rig.peer(Part("send_datagrams", port=deaf, count=100)) as sending:
        sending.result()


def test_the_page_draws_what_sockets_went_through(tmp_path: Path) -> None:
    prometheus.program("prometheus")
    ports = rig.free_port(), rig.free_port(), rig.free_port()
    watched = ",".join(map(str, ports))
    with (
        rig.cable(10, 10, drop_every=20) as cable,
        probing(ports=watched, adopt_s=0) as (_, address),
        prometheus.running(tmp_path, {"probe": [address.split("/")[2]]}) as served,
    ):
        trouble(cable, ports)
        drops = "rallypoint_udp_drops_total"
        wait_until(lambda: bool(served.ask(drops)), "a first look at everything")
        once = sum(figures(served, drops))
        trouble(cable, ports)
        wait_until(lambda: sum(figures(served, drops)) >= once * 1.5, "and a second")
        drawn = [(one.panel, figures(served, one.text)) for one in shown_by(HERE)]
    assert [title for title, found in drawn if not found] == []
    most: dict[str, float] = {}
    for title, found in drawn:
        most[title] = max([most.get(title, 0.0), *found])
    assert 0.015 < most["The path to players (rtt.min p50)"] < 0.032  # 20 ms, an octave wide
    assert 0.003 < most["Data waits for us (receive queue p99)"] < 0.016
    assert most["Our answer (turnaround p99)"] > 0.003
    assert 0.015 < most["Connects (p99)"] < 0.032
    assert 0.01 < most["Share sent again"] < 0.1
    assert all(max(found) > 0 for title, found in drawn if title == "Datagrams dropped, resets")
