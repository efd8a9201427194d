"""The fan-out: one frame, written to many clients.

    fan_out = fanout.make("uv", limits, clock=loop.time)
    slot = fan_out.add(transport, framing.WEB)
    for slot, problem in fan_out.push(slots, bodies): ...       # bodies[i] goes to slots[i]
    fan_out.remove(slot)

`push` never waits and never queues for a client that reads slowly: with more than `behind_bytes`
unsent it skips the client and reports BEHIND (the caller asks for a keyframe and sends nothing else
before it); after `cut_after_s` of that it aborts the connection and reports CUT. GONE is a slot
without a client. The bytes around a message (chunk, gRPC prefix, base64) are made once for a run
of the same object in `bodies` to clients of one framing: one object per message, not copies.

Backends are chosen by name: `uv`, transport writes. A backend keeps to `FanOut`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from rallypoint.gateway.domain.grpcweb import Framing

Clock = Callable[[], float]


class Problem(StrEnum):
    """Why a message was not written to a client."""

    BEHIND = "behind"
    CUT = "cut"
    GONE = "gone"


class Transport(Protocol):
    """What the fan-out needs of a connection; native streams imitate an asyncio transport."""

    def write(self, data: bytes) -> None:
        """Send or buffer."""

    def get_write_buffer_size(self) -> int:
        """Bytes buffered and not yet sent."""

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""


@dataclass(frozen=True, slots=True)
class FanOutLimits:
    """What a slow client may cost."""

    behind_bytes: int = 64 * 1024
    """Unsent bytes above which a client is skipped. A frame is a few hundred bytes."""
    cut_after_s: float = 10.0
    """How long a client may be skipped without a break before it is cut."""


@dataclass(frozen=True, slots=True)
class FanOutStatistics:
    """Counts since start, but `clients`."""

    clients: int
    """Registered now."""
    messages: int
    """Written."""
    bytes: int
    """Written, framing included."""
    behind: int
    """Skipped."""
    cut: int
    """Connections aborted."""


class FanOut(Protocol):
    """The interface of a backend."""

    def add(self, transport: Transport, framing: Framing) -> int:
        """Register a client; slots are reused, but never before their `remove`."""

    def remove(self, slot: int) -> None:
        """Forget a client. Idempotent until the slot is handed out again."""

    def push(self, slots: Sequence[int], bodies: Sequence[bytes]) -> list[tuple[int, Problem]]:
        """Write bodies[i] to slots[i]; lengths are equal. Returns only those with a problem."""

    def statistics(self) -> FanOutStatistics:
        """What happened so far."""


@dataclass(slots=True)
class _Client:
    transport: Transport
    framing: Framing
    write: Callable[[bytes], None]
    pending: Callable[[], int]
    behind_since: float | None = None


class UvFanOut:
    """The backend that writes to transports: on uvloop one `send` system call per message."""

    def __init__(self, limits: FanOutLimits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._clients: list[_Client | None] = []
        self._free: list[int] = []
        self._messages = self._bytes = self._behind = self._cut = 0

    def add(self, transport: Transport, framing: Framing) -> int:
        """Register a client."""
        client = _Client(transport, framing, transport.write, transport.get_write_buffer_size)
        if self._free:
            slot = self._free.pop()
            self._clients[slot] = client
            return slot
        self._clients.append(client)
        return len(self._clients) - 1

    def remove(self, slot: int) -> None:
        """Forget a client."""
        if 0 <= slot < len(self._clients) and self._clients[slot] is not None:
            self._clients[slot] = None
            self._free.append(slot)

    def push(self, slots: Sequence[int], bodies: Sequence[bytes]) -> list[tuple[int, Problem]]:
        """Write bodies[i] to slots[i]."""
        problems: list[tuple[int, Problem]] = []
        clients, limit = self._clients, self._limits.behind_bytes
        last: bytes | None = None
        framing: Framing | None = None
        data = b""
        written = size = 0
        for slot, body in zip(slots, bodies, strict=True):
            client = clients[slot]
            if client is None:
                problems.append((slot, Problem.GONE))
                continue
            if client.pending() > limit:
                problems.append((slot, self._skip(slot, client)))
                continue
            if body is not last or client.framing is not framing:
                last, framing = body, client.framing
                data = framing(body)
            client.behind_since = None
            try:
                client.write(data)
            except RuntimeError:  # uvloop's, between a reset and `connection_lost`
                problems.append((slot, Problem.GONE))
                continue
            written += 1
            size += len(data)
        self._messages += written
        self._bytes += size
        return problems

    def _skip(self, slot: int, client: _Client) -> Problem:
        now = self._clock()
        if client.behind_since is None:
            client.behind_since = now
        if now - client.behind_since < self._limits.cut_after_s:
            self._behind += 1
            return Problem.BEHIND
        self._cut += 1
        self.remove(slot)
        client.transport.abort()
        return Problem.CUT

    def statistics(self) -> FanOutStatistics:
        """What happened so far."""
        return FanOutStatistics(
            clients=len(self._clients) - len(self._free),
            messages=self._messages,
            bytes=self._bytes,
            behind=self._behind,
            cut=self._cut,
        )


BACKENDS: dict[str, Callable[..., FanOut]] = {"uv": UvFanOut}


def make(backend: str, limits: FanOutLimits, *, clock: Clock) -> FanOut:
    """The fan-out of the named backend. KeyError for a name that is not in BACKENDS."""
    return BACKENDS[backend](limits, clock=clock)
