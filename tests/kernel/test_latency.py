"""What the probe says of time, against what the rig and the kernel's stamps say was given."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.kernel import rig
from tests.kernel.peer import Part

from rallypoint.probe.domain import histogram
from rallypoint.probe.domain.histogram import Histogram
from rallypoint.probe.domain.layout import Slot
from rallypoint.probe.session import Session

pytestmark = pytest.mark.usefixtures("namespaces")
SHARE, SHARE_UNDER_LOAD = 0.05, 0.10
BUSY = "while True: sum(range(1000))"


def of(probe: Session, role: str) -> Slot:
    (found,) = [slot for slot in probe.slots() if slot.key.role == role]
    return found


def near(found: float, given: float, share: float = SHARE) -> bool:
    return abs(found - given) <= given * share


def as_given(found: Histogram, times: list[float], share: float = SHARE) -> bool:
    """The mean, whose sum is exact, and the median as far as buckets tell: to the next one."""
    p50, middle = (
        histogram.bucket_of_float(seconds)
        for seconds in (found.quantile_s(0.5), statistics.median(times))
    )
    return near(found.mean_s, statistics.fmean(times), share) and abs(p50 - middle) <= 1


@contextmanager
def load() -> Iterator[None]:
    """A busy process for every processor."""
    with ExitStack() as stack:
        for _ in range(len(os.sched_getaffinity(0))):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


@pytest.mark.parametrize(
    ("there_ms", "back_ms", "share"),
    [
        (1, 1, SHARE), (5, 5, SHARE), (10, 10, SHARE), (25, 25, SHARE), (50, 50, SHARE),
        (35, 5, SHARE), (1, 1, SHARE_UNDER_LOAD), (10, 10, SHARE_UNDER_LOAD),
    ],
    ids=["2", "10", "20", "50", "100", "35+5", "2 under load", "20 under load"],
)  # fmt: skip
def test_delays_are_those_of_the_rig(
    probe: Session, port: int, there_ms: float, back_ms: float, share: float
) -> None:
    with ExitStack() as stack:
        if share == SHARE_UNDER_LOAD:
            stack.enter_context(load())
        cable = stack.enter_context(rig.cable(there_ms, back_ms))
        four = {"port": port, "connections": 4, "count": 15}
        cable.talk(Part("serve_echo", **four), Part("ask", **four))
    path = cable.report["path"]
    assert path["least_s"] >= (there_ms + back_ms) / 1000
    for role in ("client", "server"):
        seen = of(probe, role).histograms
        assert as_given(seen["rtt"], cable.report["rtt_s"][role], share)
        assert as_given(seen["ack"], cable.report["ack_s"][role], share)
        least = seen["rtt_min"].mean_s
        assert path["least_s"] * (1 - share) <= least <= path["p50_s"] * (1 + share)
    connect = of(probe, "client").histograms["connect"]
    assert connect.count == 4
    assert as_given(connect, cable.report["connect_s"]["client"], share)


@pytest.mark.parametrize("late_ms", [2, 7, 20])
def test_unread_data_waits_as_long_as_its_reader_lets_it(
    probe: Session, port: int, late_ms: float
) -> None:
    serve = Part("serve_echo", port=port, read_late_ms=late_ms)
    served, _ = rig.talk(serve, Part("ask", port=port, count=50))
    waited = of(probe, "server").histograms["receive_queue"]
    assert waited.count == 50
    assert as_given(waited, served["waited_s"])
    assert waited.mean_s > late_ms / 1000


@pytest.mark.parametrize("think_ms", [5, 15])
def test_turnaround_is_the_servers_think_time(probe: Session, port: int, think_ms: float) -> None:
    serve = Part("serve_echo", port=port, think_ms=think_ms)
    served, _ = rig.talk(serve, Part("ask", port=port, count=50))
    turnaround = of(probe, "server").histograms["turnaround"]
    assert turnaround.count == 50
    assert as_given(turnaround, served["answered_s"])
    assert turnaround.mean_s > think_ms / 1000


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
    path = cable.report["path"]
    for role in ("client", "server"):
        seen = of(probe, role).histograms
        assert seen["rtt"].mean_s > path["mean_s"] * 1.2
        # Of most windows: a machine that is busy for one of them is not what is asked.
        least = histogram.bucket_of_float(seen["rtt_min"].quantile_s(0.5))
        assert abs(least - histogram.bucket_of_float(path["p50_s"])) <= 1
        assert seen["rtt_min"].count >= 5
