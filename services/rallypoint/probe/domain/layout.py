"""The twin of bpf/layout.bpf.h: slots, totals, settings and events as they lie in memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from rallypoint.probe.domain.histogram import BUCKETS, Histogram

LAYOUT: Final = 5
SLOTS: Final = 256
MOST_SLOTS: Final = 65_536  # that a socket can tell apart
PROTOCOLS: Final = {6: "tcp", 17: "udp"}
ROLES: Final = {1: "client", 2: "server"}

COUNTERS: Final = (
    "receives", "sends", "retransmits", "resets", "opens", "established", "connects_failed",
    "closed", "drops", "arrivals_untimed", "sends_untimed", "adopted",
    "aborts",
)  # fmt: skip
HISTOGRAMS: Final = ("rtt", "rtt_min", "connect", "receive_queue", "ack", "turnaround")
TOTALS: Final = ("slots_full", "storage_failed", "events_lost", "stale")

_WORD: Final = 8
_KEY: Final = struct.Struct("=QIHBB")
_COUNTER_WORDS: Final = 16
_HEAD_WORDS: Final = _KEY.size // _WORD + 2
_HISTOGRAM_WORDS: Final = 1 + BUCKETS
SLOT_WORDS: Final = _HEAD_WORDS + _COUNTER_WORDS + len(HISTOGRAMS) * _HISTOGRAM_WORDS
SLOT_BYTES: Final = SLOT_WORDS * _WORD


class Key(NamedTuple):
    """What a slot counts for. `bank` 1 is a canary's."""

    cgroup: int
    netns: int
    port: int
    protocol: str
    role: str
    bank: int = 0

    def pack(self) -> bytes:
        """As the kernel's hash map wants it."""
        protocol = next(n for n, name in PROTOCOLS.items() if name == self.protocol)
        role = next(n for n, name in ROLES.items() if name == self.role)
        return _KEY.pack(self.cgroup, self.netns, self.port, protocol, role | self.bank << 4)


def _key(raw: bytes) -> Key:
    cgroup, netns, port, protocol, packed = _KEY.unpack(raw)
    role = ROLES.get(packed & 15, str(packed & 15))
    return Key(cgroup, netns, port, PROTOCOLS.get(protocol, str(protocol)), role, packed >> 4)


@dataclass(frozen=True, slots=True)
class Slot:
    """One reading of a slot. Counters and histograms only grow until the generation does."""

    index: int
    key: Key
    generation: int
    born_ns: int
    counters: dict[str, int]
    histograms: dict[str, Histogram] = field(repr=False)


def read_slots(words: Sequence[int]) -> Iterator[Slot]:
    """The taken slots of a mapping, seen as 64-bit words of this machine's order."""
    for index in range(len(words) // SLOT_WORDS):
        slot = _read(words, index)
        if slot is not None:
            yield slot


def _read(words: Sequence[int], index: int) -> Slot | None:
    at = index * SLOT_WORDS
    generation, taken = struct.unpack("=II", struct.pack("=Q", words[at + 2]))
    if not taken:
        return None
    counters_at = at + _HEAD_WORDS
    counters = {name: words[counters_at + i] for i, name in enumerate(COUNTERS)}
    first = counters_at + _COUNTER_WORDS
    return Slot(
        index=index,
        key=_key(struct.pack("=QQ", words[at], words[at + 1])),
        generation=generation,
        born_ns=words[at + 3],
        counters=counters,
        histograms={
            name: _histogram(words, first + i * _HISTOGRAM_WORDS)
            for i, name in enumerate(HISTOGRAMS)
        },
    )


def _histogram(words: Sequence[int], at: int) -> Histogram:
    return Histogram(words[at], list(words[at + 1 : at + _HISTOGRAM_WORDS]))


def freed_slot(generation: int) -> bytes:
    """What a slot holds once it is free; sockets that remember the one before are stale."""
    head = struct.pack("=QQIIQ", 0, 0, generation, 0, 0)
    return head.ljust(SLOT_BYTES, b"\0")


class EventKind(IntEnum):
    """What an event tells."""

    SLOW = 1
    RETRANSMIT = 2
    NEW_SLOT = 3


_EVENT: Final = struct.Struct("=QQQQII")


class Event(NamedTuple):
    """Something rare about one socket, whose cookie its owner knows by SO_COOKIE."""

    cookie: int
    at_ns: int
    value: int
    cgroup: int
    slot: int
    kind: EventKind


def event(raw: bytes) -> Event:
    """Read one."""
    cookie, at_ns, value, cgroup, slot, kind = _EVENT.unpack(raw[: _EVENT.size])
    return Event(cookie, at_ns, value, cgroup, slot, EventKind(kind))


CONFIG: Final = struct.Struct("=QQQIIIII")


@dataclass(frozen=True, slots=True)
class Config:
    """What the programs read at each event; written through the mapping of their data."""

    window_ns: int = 1_000_000_000
    slow_ns: int = 0
    pods_root: int = 0
    adopt: bool = False
    full: bool = True
    every_cgroup: bool = False
    every_port: bool = False
    old_hooks: bool = False

    def pack(self, times_full: int = 1) -> bytes:
        """As it lies in memory; each time that `full` is on again has a number of its own."""
        return CONFIG.pack(
            self.window_ns, self.slow_ns, self.pods_root, self.adopt, self.full and times_full,
            self.every_cgroup, self.every_port, self.old_hooks,
        )  # fmt: skip
