"""Put the events of connections together to calls: whose, to which method, how long.

Everything is bounded. What cannot be known is counted by its reason and told without a method, not
guessed: an HPACK table is lost with the first header that was missed.
"""

from __future__ import annotations

import bisect
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rallypoint.probe.domain import histogram, hpack, l7, metrics, pods, series
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner

MOST_CONNECTIONS: Final = 2048
MOST_OPEN: Final = 512
"""Calls of one connection that go on at once."""
MOST_QUESTIONS: Final = 4096
MOST_SERIES: Final = 1024
MOST_METHODS: Final = 64
"""Names of one cgroup: who calls invents them, and they stay as long as the cgroup does."""
OTHER: Final = "_OTHER"
"""All further ones, as OpenTelemetry calls them."""
MOST_BLOCK: Final = 65_536
GONE_S: Final = 60.0
DNS, GRPC, HTTP2 = "dns", "grpc", "http2"
UNRECOGNISED: Final = ("late", "gaps", "events_lost", "broken", "forgotten", "series_full")


class CallKey(NamedTuple):
    """What calls are counted by. `method` is empty where it is not gRPC's, or not known."""

    cgroup: int
    protocol: str
    port: int
    role: str
    method: str = ""
    failed: bool = False
    """Reset, or an answer of DNS that is an error."""


@dataclass(slots=True)
class Timed:
    """The calls of one key since `born_ns`."""

    born_ns: int
    sum_ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * histogram.BUCKETS)

    def add(self, ns: int) -> None:
        self.buckets[bisect.bisect_left(histogram.ends(), ns)] += 1
        self.sum_ns += ns

    @property
    def values(self) -> histogram.Histogram:
        """As a histogram."""
        return histogram.Histogram(self.sum_ns, self.buckets)


@dataclass(slots=True)
class _Connection:
    decoder: hpack.Decoder | None = field(default_factory=hpack.Decoder)
    next: int = 0
    block: bytearray = field(default_factory=bytearray)
    open: OrderedDict[int, tuple[int, str, str]] = field(default_factory=OrderedDict)
    """When it began, its protocol and method, by stream."""


@dataclass(frozen=True, slots=True)
class CallSeries:
    """The calls of one key, with whose they are."""

    owner: Owner
    key: CallKey
    born_ns: int
    values: histogram.Histogram

    @property
    def metric(self) -> metrics.Metric:
        """Under which name it is told."""
        return metrics.CALLS[self.key.protocol, self.key.role]

    @property
    def attributes(self) -> dict[str, str | int]:
        """What tells it from the others of its owner."""
        found: dict[str, str | int] = {"server.port": self.key.port}
        if self.key.protocol == GRPC:
            found |= {"rpc.system.name": GRPC, "rpc.method": self.key.method}
        if self.key.failed:
            found["error.type"] = "error" if self.key.protocol == DNS else "reset"
        return found


def told(found: Mapping[CallKey, Timed], find: Callable[[int], Owner]) -> list[CallSeries]:
    """Everything counted; what belongs to nobody known is one."""
    sums: dict[tuple[Owner, CallKey], CallSeries] = {}
    for key, timed in found.items():
        owner = find(key.cgroup)
        at = owner, key._replace(cgroup=0, port=0 if owner == UNKNOWN else key.port)
        known = sums.get(at)
        values = timed.values
        sums[at] = (
            CallSeries(*at, timed.born_ns, values)
            if known is None
            else CallSeries(
                *at,
                min(known.born_ns, timed.born_ns),
                histogram.added((known.values, values)),
            )
        )
    return list(sums.values())


def shown(one: CallSeries, named: pods.Named = pods.NAMELESS) -> dict[str, object]:
    """For JSON."""
    key = one.key
    return {
        "owner": named.title or one.owner.name,
        "protocol": key.protocol,
        "port": key.port,
        "role": key.role,
        "method": key.method,
        "failed": key.failed,
        "duration_ms": series.figures(one.values),
    }


class Calls:
    """Takes events in their order."""

    def __init__(self) -> None:
        self.series: dict[CallKey, Timed] = {}
        self.unrecognised: Counter[str] = Counter(dict.fromkeys(UNRECOGNISED, 0))
        self._connections: OrderedDict[int, _Connection] = OrderedDict()
        self._questions: OrderedDict[tuple[int, int, int], int] = OrderedDict()
        self._methods: dict[int, set[str]] = {}
        self._gone: dict[int, float] = {}

    def take(self, events: Iterable[l7.Event]) -> None:
        """Count what they tell."""
        for event in events:
            if event.kind in (l7.Kind.QUERY, l7.Kind.ANSWER):
                self._datagram(event)
            else:
                self._frame(event)

    def expire(self, exists: Callable[[int], bool], now: float) -> None:
        """Drop the series of cgroups that are long gone."""
        gone = {key.cgroup for key in self.series if not exists(key.cgroup)}
        self._gone = {cgroup: self._gone.get(cgroup, now) for cgroup in gone}
        ended = {cgroup for cgroup, since in self._gone.items() if now - since >= GONE_S}
        self.series = {key: one for key, one in self.series.items() if key.cgroup not in ended}
        self._methods = {of: names for of, names in self._methods.items() if of not in ended}

    def _datagram(self, event: l7.Event) -> None:
        at = event.cookie, event.left, event.stream
        if event.kind is l7.Kind.QUERY:
            self._questions[at] = event.at_ns
            if len(self._questions) > MOST_QUESTIONS:
                self._questions.popitem(last=False)  # never answered, most likely
        elif (asked_ns := self._questions.pop(at, None)) is not None:
            key = CallKey(event.cgroup, DNS, event.port, event.role, "", bool(event.flags))
            self._count(key, asked_ns, event.at_ns)

    def _frame(self, event: l7.Event) -> None:
        connection = self._connection(event)
        if event.number != connection.next:
            self._broken(connection)
        connection.next = event.number + 1
        match event.kind:
            case l7.Kind.GIVEN_UP:
                self._connections.pop(event.cookie, None)
            case l7.Kind.HEADERS:
                self._headers(connection, event)
            case _:
                self._ended(connection, event)

    def _connection(self, event: l7.Event) -> _Connection:
        known = self._connections.get(event.cookie)
        if known is None:
            known = self._connections[event.cookie] = _Connection()
            while len(self._connections) > MOST_CONNECTIONS:
                self._connections.popitem(last=False)
                self.unrecognised["forgotten"] += 1
        else:
            self._connections.move_to_end(event.cookie)
        return known

    def _broken(self, connection: _Connection) -> None:
        """Calls go on being timed, but nobody knows their names any more."""
        if connection.decoder is not None:
            connection.decoder = None
            self.unrecognised["broken"] += 1
        connection.block.clear()

    def _headers(self, connection: _Connection, event: l7.Event) -> None:
        if connection.decoder is None:
            whole = not event.left and event.flags & l7.END_HEADERS
            if whole and event.stream not in connection.open:
                self._begin(connection, event, HTTP2, "")
            return
        connection.block += event.block
        if len(connection.block) > MOST_BLOCK:
            self._broken(connection)
        elif not event.left:
            if event.type == l7.Frame.HEADERS and event.flags & (l7.PADDED | l7.PRIORITY):
                connection.block[:] = _bare(connection.block, event.flags)
            if event.flags & l7.END_HEADERS:
                self._read(connection, connection.decoder, event)

    def _read(self, connection: _Connection, decoder: hpack.Decoder, event: l7.Event) -> None:
        block = bytes(connection.block)
        connection.block.clear()
        try:
            head = decoder.read(block)
        except hpack.HpackError:
            self._broken(connection)
            return
        if head.request:
            self._begin(connection, event, GRPC if head.method else HTTP2, head.method)

    def _begin(self, connection: _Connection, event: l7.Event, protocol: str, method: str) -> None:
        connection.open[event.stream] = event.at_ns, protocol, method
        if len(connection.open) > MOST_OPEN:
            connection.open.popitem(last=False)
            self.unrecognised["forgotten"] += 1

    def _ended(self, connection: _Connection, event: l7.Event) -> None:
        begun = connection.open.pop(event.stream, None)
        if begun is not None:
            at_ns, protocol, method = begun
            failed = event.type == l7.Frame.RST_STREAM
            key = CallKey(event.cgroup, protocol, event.port, event.role, method, failed)
            self._count(key, at_ns, event.at_ns)

    def _count(self, key: CallKey, begun_ns: int, ended_ns: int) -> None:
        methods = self._methods.get(key.cgroup, ())
        if key.method and key.method not in methods and len(methods) >= MOST_METHODS:
            key = key._replace(method=OTHER)
        timed = self.series.get(key)
        if timed is None:
            if len(self.series) >= MOST_SERIES:
                self.unrecognised["series_full"] += 1
                return
            timed = self.series[key] = Timed(begun_ns)
            if key.method:
                self._methods.setdefault(key.cgroup, set()).add(key.method)
        timed.add(max(0, ended_ns - begun_ns))


def _bare(block: bytearray, flags: int) -> bytes:
    """Without padding and priority, which only a HEADERS frame has."""
    begin, end = 0, len(block)
    if flags & l7.PADDED and block:
        begin, end = 1, end - block[0]
    if flags & l7.PRIORITY:
        begin += 5
    return bytes(block[begin:end])
