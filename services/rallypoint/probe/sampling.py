"""Without BPF: ask the kernel about the connections of this namespace again and again (inet_diag).

Needs no right. Each look adds every connection's smoothed round trip (`rtt`) and the kernel's least
one of 300 s (`rtt_min`) to the same histograms that the programs fill; how long data waits cannot
be seen this way. A connection that comes and goes between two looks is missed.
"""

from __future__ import annotations

import bisect
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rallypoint.kit import inet_diag
from rallypoint.probe import snmp
from rallypoint.probe.domain import histogram, layout

_WANT_INFO: Final = 1 << 1
_ATTRIBUTE_INFO, _ATTRIBUTE_CGROUP = 2, 21
_MESSAGE: Final = struct.Struct(">4xHH36xII20x")
_RTT_AT, _RETRANSMITS_AT, _LEAST_AT = 68, 100, 148
_EPHEMERAL: Final = range(32768, 61000)


class Connection(NamedTuple):
    """What the kernel tells of one."""

    cookie: int
    own_port: int
    peer_port: int
    cgroup: int
    rtt_us: int
    least_us: int
    retransmits: int


def connections() -> Iterator[Connection]:
    """Every established TCP connection of this network namespace."""
    for message in inet_diag.messages(extensions=_WANT_INFO):
        if found := _connection(message):
            yield found


def _connection(message: bytes) -> Connection | None:
    own, peer, low, high = _MESSAGE.unpack_from(message)
    info, cgroup, at = b"", 0, _MESSAGE.size
    while at + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        value = message[at + 4 : at + size]
        if kind == _ATTRIBUTE_INFO:
            info = value
        elif kind == _ATTRIBUTE_CGROUP:
            cgroup = int.from_bytes(value, "little")
        at += max(4, (size + 3) & ~3)
    if len(info) < _LEAST_AT + 4:
        return None
    numbers = (struct.unpack_from("=I", info, at)[0] for at in (_RTT_AT, _LEAST_AT))
    rtt, least = numbers
    (retransmits,) = struct.unpack_from("=I", info, _RETRANSMITS_AT)
    return Connection(low << 32 | high, own, peer, cgroup, rtt, least, retransmits)


def tcp_info(sock: socket.socket) -> tuple[float, float, int]:
    """Of one socket of our own: smoothed and least round trip in seconds, retransmits (18 µs)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LEAST_AT + 4)
    rtt, retransmits, least = (
        struct.unpack_from("=I", info, at)[0] for at in (_RTT_AT, _RETRANSMITS_AT, _LEAST_AT)
    )
    return rtt / 1e6, least / 1e6, int(retransmits)


@dataclass(slots=True)
class _Growing:
    index: int
    born_ns: int
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(layout.COUNTERS, 0))
    buckets: dict[str, list[int]] = field(
        default_factory=lambda: {name: [0] * histogram.BUCKETS for name in layout.HISTOGRAMS}
    )
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(layout.HISTOGRAMS, 0))

    def record(self, name: str, ns: int) -> None:
        at = bisect.bisect_left(histogram.ends(), ns)
        self.buckets[name][at] += 1
        self.sums[name] += ns


class Sampled:
    """Slots made of looks at inet_diag; the same face as a session's."""

    mode = "inet_diag"

    def __init__(self, ports: tuple[int, ...], reason: str) -> None:
        next(connections(), None)  # OSError here, not later, where netlink is refused
        self.reason = reason
        self._ports = frozenset(ports)
        self._netns = snmp.namespace()
        self._known: dict[int, int] = {}
        self._slots: dict[layout.Key, _Growing] = {}

    def look(self) -> None:
        """Add what every connection says now."""
        known: dict[int, int] = {}
        for seen in connections():
            client = seen.own_port in _EPHEMERAL and seen.peer_port not in _EPHEMERAL
            port = seen.peer_port if client else seen.own_port
            if self._ports and port not in self._ports:
                continue
            role = "client" if client else "server"
            slot = self._slot(layout.Key(seen.cgroup, self._netns, port, "tcp", role))
            known[seen.cookie] = seen.retransmits
            slot.counters["retransmits"] += seen.retransmits - self._known.get(seen.cookie, 0)
            slot.counters["opens"] += seen.cookie not in self._known
            slot.record("rtt", seen.rtt_us * 1000)
            slot.record("rtt_min", seen.least_us * 1000)
        self._known = known

    def _slot(self, key: layout.Key) -> _Growing:
        if key not in self._slots:
            self._slots[key] = _Growing(len(self._slots), time.monotonic_ns())
        return self._slots[key]

    def slots(self) -> list[layout.Slot]:
        """All, as a session would give them."""
        return [
            layout.Slot(
                index=grown.index,
                key=key,
                generation=0,
                born_ns=grown.born_ns,
                counters=dict(grown.counters),
                histograms={
                    name: histogram.Histogram(grown.sums[name], list(grown.buckets[name]))
                    for name in layout.HISTOGRAMS
                },
            )
            for key, grown in self._slots.items()
        ]

    def totals(self) -> dict[str, int]:
        """Nothing can go wrong in a way that is counted."""
        return dict.fromkeys(layout.TOTALS, 0)

    def events(self) -> list[layout.Event]:
        """None are seen this way."""
        return []

    def free(self, slot: layout.Slot) -> None:
        """Forget a slot."""
        del self._slots[slot.key]

    def close(self) -> None:
        """Nothing is open."""
