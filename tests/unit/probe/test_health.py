"""What is said of a pod's network, and how slowly the opinion changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.probe.test_export import POD, one

from rallypoint.probe.domain import health, series
from rallypoint.probe.domain.cgroups import Owner

LIMITS = health.Limits(window_s=10.0)
TCP = series.SeriesKey(POD, "tcp", 7001, "server")
UDP = TCP._replace(transport="udp", port=7002)
NEAR, FAR = 140, 175  # buckets: 24 ms and 500 ms
Window = tuple[int, int, int]
"""Messages, retransmits and the bucket of the path in one window."""

FINE: Window = (1000, 0, NEAR)
LOSSY: Window = (1000, 90, NEAR)
SLOW: Window = (1000, 0, FAR)
ALMOST: Window = (1000, 45, NEAR)
IDLE: Window = (3, 3, FAR)


def said(windows: list[Window]) -> list[health.Opinion | None]:
    """What is told of the pod at the end of each window."""
    judge, told = health.Health(LIMITS), []
    sends = retransmits = 0
    paths: list[int] = []
    for number, (more, again, path) in enumerate(windows):
        sends, retransmits = sends + more, retransmits + again
        paths += [path] * 10
        found = one(TCP, sends=sends, retransmits=retransmits)
        found.histograms["rtt_min"] = one(TCP, rtt=tuple(paths)).histograms["rtt"]  # type: ignore[index]
        told.append(judge.look([found], number * 10.0).get(POD.pod_uid))
    return told


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        ([FINE] * 6, [None] * 5 + [health.WITHIN]),
        ([LOSSY] * 3, [None] * 2 + [health.RETRANSMITS]),
        ([SLOW] * 3, [None] * 2 + [health.PATH]),
        ([LOSSY, LOSSY, FINE, LOSSY, LOSSY, FINE], [None] * 6),
        ([LOSSY, LOSSY, IDLE, LOSSY], [None] * 3 + [health.RETRANSMITS]),
        ([LOSSY] * 3 + [ALMOST] * 8, [None] * 2 + [health.RETRANSMITS] + [None] * 8),
        (
            [LOSSY] * 3 + [FINE] * 6,
            [None] * 2 + [health.RETRANSMITS] + [None] * 5 + [health.WITHIN],
        ),
        ([FINE] * 6 + [ALMOST] * 8, [None] * 5 + [health.WITHIN] + [None] * 8),
    ],
)  # fmt: skip
def test_opinions_change_slowly(windows: list[Window], told: list[str | None]) -> None:
    assert [opinion and opinion.reason for opinion in said(windows)] == told


def test_dropped_datagrams_are_told() -> None:
    judge, told = health.Health(LIMITS), []
    for number in range(3):
        found = one(UDP, receives=100 * (number + 1), drops=5 * (number + 1))
        told.append(judge.look([found], number * 10.0))
    assert told[:2] == [{}, {}]
    opinion = told[2][POD.pod_uid]
    assert not opinion.healthy
    assert (opinion.reason, opinion.message) == (
        health.DROPS,
        "4.8% of the datagrams found no room",
    )


def test_who_is_no_pod_or_has_gone_is_forgotten() -> None:
    def lossy(number: int, owner: Owner) -> series.Series:
        return one(TCP._replace(owner=owner), sends=1000 * number, retransmits=100 * number)

    judge = health.Health(LIMITS)
    tell: Callable[..., dict[str, health.Opinion]] = judge.look
    for number in (1, 2, 3):
        found = [lossy(number, POD), lossy(number, Owner("/system.slice"))]
        told = tell(found, number * 10.0)
    assert set(told) == {POD.pod_uid}
    assert not judge.due(35.0)
    assert judge.due(40.0)
    assert tell([], 40.0) == {}
    told = [tell([lossy(number, POD)], number * 10.0) for number in (5, 6, 7)]
    assert [bool(one) for one in told] == [False, False, True]
