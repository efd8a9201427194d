"""Carry packets between the TUN devices of two namespaces, late, and tell how late it really was.

`python -m tests.kernel.relay <netns a> <netns b> <ms a→b> <ms b→a> <drop every n-th with data>`
It stops when its standard input closes and prints what it did as JSON: by the kernel's stamps at
both devices (`witness`), so the time that the relay itself came late is in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import os
import select
import statistics
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.kernel import netns, witness

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
PR_SET_TIMERSLACK = 29
DEVICE = "tun0"
PACKET_BYTES = 65_536
TCP = 6


@dataclass(slots=True)
class Way:
    """One direction."""

    source: int
    target: int
    delay_s: float
    drop_every: int = 0
    with_data: int = 0
    dropped: int = 0

    def wants_drop(self, packet: bytes) -> bool:
        """Tell whether it is this packet's turn to be lost."""
        if not self.drop_every or not has_data(packet):
            return False
        self.with_data += 1
        lost = self.with_data % self.drop_every == 0
        self.dropped += lost
        return lost


def has_data(packet: bytes) -> bool:
    """Tell whether an IPv4 packet is TCP with a payload."""
    if packet[0] >> 4 != 4 or packet[9] != TCP:
        return False
    header = (packet[0] & 15) * 4
    return int.from_bytes(packet[2:4], "big") > header + (packet[header + 12] >> 4) * 4


def open_tun(name: str) -> tuple[int, witness.Witness]:
    netns.enter(name)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return fd, witness.Witness(DEVICE)


def carry(ways: dict[int, Way]) -> None:
    """Until standard input closes."""
    order = itertools.count()
    late: list[tuple[float, int, Way, bytes]] = []
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        ready = select.select([0, *ways], [], [], wait)[0]
        for fd in ready:
            if fd == 0:
                return
            with contextlib.suppress(BlockingIOError):
                while packet := os.read(fd, PACKET_BYTES):
                    now, way = time.monotonic(), ways[fd]
                    if not way.wants_drop(packet):
                        heapq.heappush(late, (now + way.delay_s, next(order), way, packet))
        while late and late[0][0] <= time.monotonic():
            _, _, way, packet = heapq.heappop(late)
            with contextlib.suppress(OSError):  # the device is not up yet
                os.write(way.target, packet)


def main() -> None:
    a_name, b_name, there_ms, back_ms, drop_every = sys.argv[1:]
    netns.hurry()
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    (a, at_a), (b, at_b) = open_tun(a_name), open_tun(b_name)
    ways = {
        a: Way(a, b, float(there_ms) / 1000, int(drop_every)),
        b: Way(b, a, float(back_ms) / 1000),
    }
    print("ready", flush=True)
    carry(ways)
    print(json.dumps(report(at_a.told(), at_b.told(), ways[a].dropped)), flush=True)


def report(
    at_a: list[witness.Seen], at_b: list[witness.Seen], dropped: int
) -> dict[str, dict[str, Any]]:
    """What each way gave, and the round trips that segments of either end made."""
    there = statistics_of(witness.delays_s(at_a, at_b))
    back = statistics_of(witness.delays_s(at_b, at_a))
    ends = {"client": witness.trips(at_a), "server": witness.trips(at_b)}
    return {
        "there": {**there, "dropped": dropped},
        "back": back,
        "path": {key: there[key] + back[key] for key in there},
        "rtt_s": {end: [t.seconds for t in ts if not t.opening] for end, ts in ends.items()},
        "ack_s": {
            end: [t.seconds for t in ts if not t.opening and not t.closing]
            for end, ts in ends.items()
        },
        "connect_s": {"client": [t.seconds for t in ends["client"] if t.opening]},
    }


def statistics_of(given: list[float]) -> dict[str, float]:
    return {
        "mean_s": statistics.fmean(given),
        "p50_s": statistics.median(given),
        "least_s": min(given),
    }


if __name__ == "__main__":
    main()
