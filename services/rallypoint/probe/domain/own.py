"""What the probe says about itself, as plain points: value and attributes of one metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rallypoint.probe.domain import layout, metrics
from rallypoint.probe.domain.metrics import Metric

COMPARED: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    # the kernel's counter: (ours, role, transport)
    "Tcp.ActiveOpens": (("opens", "client", "tcp"),),
    "Tcp.PassiveOpens": (("opens", "server", "tcp"),),
    "Tcp.RetransSegs": (("retransmits", "client", "tcp"), ("retransmits", "server", "tcp")),
    "Tcp.EstabResets": (("aborts", "client", "tcp"), ("aborts", "server", "tcp")),
    "Udp.RcvbufErrors": (("drops", "server", "udp"), ("drops", "client", "udp")),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One number."""

    metric: Metric
    value: float
    attributes: tuple[tuple[str, str], ...] = ()
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of the kernel's counters and ours, since the probe was attached."""

    name: str
    kernel: int
    probe: int


def compared(
    before: Mapping[str, int],
    now: Mapping[str, int],
    slots: Iterable[layout.Slot],
    namespace: int,
) -> list[Comparison]:
    """Compare for one network namespace, from where both were equal: `before` is the difference.

    Adopted connections were opened before: not counted.
    """
    ours = [slot for slot in slots if slot.key.netns == namespace]
    found = []
    for name, parts in COMPARED.items():
        counted = sum(
            slot.counters[counter]
            for counter, role, transport in parts
            for slot in ours
            if (slot.key.role, slot.key.protocol) == (role, transport)
        )
        found.append(Comparison(name, now.get(name, 0) - before.get(name, 0), counted))
    return found


def points_of(comparisons: Iterable[Comparison]) -> list[Point]:
    """Both sides of each."""
    found = []
    for one in comparisons:
        for source, value in (("kernel", one.kernel), ("probe", one.probe)):
            attributes = (("counter", one.name), ("source", source))
            found.append(Point(metrics.KERNEL, value, attributes, counter=True))
    return found
