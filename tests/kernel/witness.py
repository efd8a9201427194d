"""What crossed a device and when, by the kernel's own clock: whoever woke up late cannot hide it.

A packet socket stamps each packet as it leaves a namespace and as it enters one. It is read when
all is over, so that the witness takes no time from those it watches.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_ALL_PROTOCOLS: Final = 3
_OUTGOING: Final = 4
_KEPT_BYTES: Final = 96
_BUFFER_BYTES: Final = 32 << 20
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_TCP: Final = 6
_FIN, _SYN, _ACK = 1, 2, 16
_TIMESPEC: Final = struct.Struct("=qq")


def stamp_of(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """When the kernel got what was just received, in nanoseconds since 1970."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, ns = _TIMESPEC.unpack(data)
            return int(seconds * 1_000_000_000 + ns)
    raise AssertionError("the kernel told no time")


class Seen(NamedTuple):
    """One IPv4 packet at one device."""

    at_ns: int
    left: bool
    packet: bytes


class Segment(NamedTuple):
    """What TCP says in it."""

    ports: tuple[int, int]
    begin: int
    end: int
    acknowledged: int
    flags: int


class Trip(NamedTuple):
    """How long a segment waited to be acknowledged."""

    seconds: float
    opening: bool
    """It began the connection …"""
    closing: bool
    """… or ended it."""


class Witness:
    """Stands at a device of the namespace it was made in."""

    def __init__(self, device: str) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._sock.bind((device, _ALL_PROTOCOLS))
        self._sock.setblocking(False)

    def told(self) -> list[Seen]:
        """Everything that crossed the device."""
        found = []
        with contextlib.suppress(OSError):  # the device was down when we came
            self._sock.recv(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, where = self._sock.recvmsg(_KEPT_BYTES, 64)
                if packet[0] >> 4 == 4:
                    found.append(Seen(stamp_of(ancillary), where[2] == _OUTGOING, packet))
        counted = self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        assert struct.unpack("=II", counted)[1] == 0, "packets that the witness missed"
        return found


def delays_s(source: Iterable[Seen], target: Iterable[Seen]) -> list[float]:
    """How long each packet took from the one device to the other; the lost are left out."""
    leaving: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for one in source:
        if one.left:
            leaving[one.packet].append(one.at_ns)
    return [
        (one.at_ns - leaving[one.packet].popleft()) / 1e9
        for one in target
        if not one.left and leaving[one.packet]
    ]


def trips(seen: Iterable[Seen]) -> list[Trip]:
    """The round trips that one end's segments made. What was sent twice is left out, as by TCP."""
    waiting: dict[tuple[tuple[int, int], int], tuple[int, int]] = {}
    found = []
    for one in seen:
        segment = segment_of(one.packet)
        if segment is None:
            continue
        if one.left and segment.end != segment.begin:
            at = segment.ports, segment.end
            if waiting.pop(at, None) is None:
                waiting[at] = one.at_ns, segment.flags
        elif not one.left and segment.flags & _ACK:
            ours = segment.ports[::-1]
            for at in [at for at in waiting if at[0] == ours]:
                if reached(segment.acknowledged, at[1]):
                    left_ns, flags = waiting.pop(at)
                    taken = (one.at_ns - left_ns) / 1e9
                    found.append(Trip(taken, bool(flags & _SYN), bool(flags & _FIN)))
    return found


def reached(number: int, end: int) -> bool:
    """Compare sequence numbers."""
    return (number - end) & 0xFFFFFFFF < 1 << 31


def segment_of(packet: bytes) -> Segment | None:
    """None if it is not TCP."""
    if packet[9] != _TCP:
        return None
    at = (packet[0] & 15) * 4
    near, far, begin, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, at)
    size = int.from_bytes(packet[2:4], "big") - at - (offset >> 4) * 4
    size += bool(flags & _SYN) + bool(flags & _FIN)
    return Segment((near, far), begin, (begin + size) & 0xFFFFFFFF, acknowledged, flags)
