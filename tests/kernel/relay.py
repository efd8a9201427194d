"""Carry packets between the TUN devices of two namespaces, late, and tell how late it really was.

`python -m tests.kernel.relay <netns a> <netns b> <ms a→b> <ms b→a> <drop every n-th with data>`
It stops when its standard input closes and prints what it did as JSON.
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
from dataclasses import dataclass, field

from tests.kernel import netns

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
    given: list[float] = field(default_factory=list)

    def wants_drop(self, packet: bytes) -> bool:
        """Tell whether it is this packet's turn to be lost."""
        if not self.drop_every or not has_data(packet):
            return False
        self.with_data += 1
        lost = self.with_data % self.drop_every == 0
        self.dropped += lost
        return lost

    def statistics(self) -> dict[str, float]:
        """What it did."""
        mean = statistics.fmean(self.given) if self.given else 0.0
        p50 = statistics.median(self.given) if self.given else 0.0
        return {"mean_s": mean, "p50_s": p50, "packets": len(self.given), "dropped": self.dropped}


def has_data(packet: bytes) -> bool:
    """Tell whether an IPv4 packet is TCP with a payload."""
    if packet[0] >> 4 != 4 or packet[9] != TCP:
        return False
    header = (packet[0] & 15) * 4
    return int.from_bytes(packet[2:4], "big") > header + (packet[header + 12] >> 4) * 4


def open_tun(name: str) -> int:
    netns.enter(name)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def carry(ways: dict[int, Way]) -> None:
    """Until standard input closes."""
    order = itertools.count()
    late: list[tuple[float, int, float, Way, bytes]] = []
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
                        heapq.heappush(late, (now + way.delay_s, next(order), now, way, packet))
        while late and late[0][0] <= time.monotonic():
            _, _, came, way, packet = heapq.heappop(late)
            way.given.append(time.monotonic() - came)
            with contextlib.suppress(OSError):  # the device is not up yet
                os.write(way.target, packet)


def main() -> None:
    a_name, b_name, there_ms, back_ms, drop_every = sys.argv[1:]
    netns.hurry()
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    a, b = open_tun(a_name), open_tun(b_name)
    ways = {
        a: Way(a, b, float(there_ms) / 1000, int(drop_every)),
        b: Way(b, a, float(back_ms) / 1000),
    }
    print("ready", flush=True)
    carry(ways)
    there, back = (way.statistics() for way in ways.values())
    rtt = {key: there[key] + back[key] for key in ("mean_s", "p50_s")}
    print(json.dumps({"there": there, "back": back, "rtt": rtt}), flush=True)


if __name__ == "__main__":
    main()
