"""What the kernel says of time, against what the rig really did."""

from __future__ import annotations

import statistics

import pytest
from tests.kernel import rig
from tests.kernel.peer import Part

from rallypoint.probe.domain.histogram import Histogram
from rallypoint.probe.domain.layout import Slot
from rallypoint.probe.session import Session

pytestmark = pytest.mark.usefixtures("namespaces")
# A crowded machine wakes the relay late, which the relay itself does not see.
SHARE = 0.10
SLACK_S = 0.0004


def of(probe: Session, role: str) -> Slot:
    (found,) = [slot for slot in probe.slots() if slot.key.role == role]
    return found


def near(found: float, given: float) -> bool:
    return abs(found - given) <= given * SHARE + SLACK_S


def both_near(histogram: Histogram, mean: float, p50: float) -> bool:
    """Means with means, medians with medians: a crowded machine makes the two differ."""
    return near(histogram.mean_s, mean) and near(histogram.quantile_s(0.5), p50)


def as_given(histogram: Histogram, times: list[float]) -> bool:
    return both_near(histogram, statistics.fmean(times), statistics.median(times))


@pytest.mark.parametrize(
    ("there_ms", "back_ms"),
    [(1, 1), (5, 5), (10, 10), (25, 25), (50, 50), (35, 5)],
    ids=["2", "10", "20", "50", "100", "35+5"],
)
def test_delays_are_those_of_the_rig(
    probe: Session, port: int, there_ms: float, back_ms: float
) -> None:
    with rig.cable(there_ms, back_ms) as cable:
        echo, ask = Part("serve_echo", port=port), Part("ask", port=port, count=60)
        _, asked = cable.talk(echo, ask)
    given, middle = cable.report["rtt"]["mean_s"], cable.report["rtt"]["p50_s"]
    client, server = of(probe, "client").histograms, of(probe, "server").histograms
    assert both_near(client["rtt"], given, middle)
    assert near(client["rtt_min"].mean_s, middle)
    # One value: the program that connects learns of it late on a crowded machine.
    assert given * (1 - SHARE) <= client["connect"].mean_s <= asked["connect_s"][0]
    assert both_near(client["ack"], given, middle)
    assert client["connect"].count == 1
    assert server["rtt_min"].count >= 1


@pytest.mark.parametrize("late_ms", [2, 7, 20])
def test_unread_data_waits_as_long_as_its_reader_lets_it(
    probe: Session, port: int, late_ms: float
) -> None:
    serve = Part("serve_echo", port=port, read_late_ms=late_ms)
    served, _ = rig.talk(serve, Part("ask", port=port, count=50))
    waited = of(probe, "server").histograms["receive_queue"]
    assert waited.count == 50
    assert as_given(waited, served["waited_s"])


@pytest.mark.parametrize("think_ms", [5, 15])
def test_turnaround_is_the_servers_think_time(probe: Session, port: int, think_ms: float) -> None:
    serve = Part("serve_echo", port=port, think_ms=think_ms)
    served, _ = rig.talk(serve, Part("ask", port=port, count=50))
    turnaround = of(probe, "server").histograms["turnaround"]
    assert turnaround.count == 50
    assert as_given(turnaround, served["answered_s"])


def test_datagrams_wait_as_long_as_their_reader_lets_them(probe: Session, port: int) -> None:
    serve = Part("serve_datagrams", port=port, count=50, read_late_ms=7)
    served, _ = rig.talk(serve, Part("send_datagrams", port=port, count=50, gap_ms=12))
    waited = of(probe, "server").histograms["receive_queue"]
    assert waited.count == 50
    assert as_given(waited, served["waited_s"])


def test_ticking_peers_look_slow_and_their_minimum_does_not(probe: Session, port: int) -> None:
    with rig.cable(10, 10) as cable:
        serve = Part("serve_ticks", port=port, hz=30, seconds=8)
        cable.talk(serve, Part("tick", port=port, hz=27, seconds=7))
    given = cable.report["rtt"]["mean_s"]
    for role in ("client", "server"):
        seen = of(probe, role).histograms
        assert seen["rtt"].mean_s > given * 1.2
        assert near(seen["rtt_min"].mean_s, given)
        assert seen["rtt_min"].count >= 5
