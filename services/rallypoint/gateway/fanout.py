"""The fan-out: one frame, written to many clients.

    fan_out = fanout.make("auto", limits, clock=loop.time)
    slot = fan_out.add(transport, framing.WEB)
    for slot, problem in fan_out.push(slots, bodies): ...       # bodies[i] goes to slots[i]
    fan_out.remove(slot)

`push` never waits and never queues for a client that reads slowly: with more than `behind_bytes`
unsent it skips the client and reports BEHIND (the caller asks for a keyframe and sends nothing else
before it; `skipped` says what was not written); after `cut_after_s` of that it aborts the
connection and reports CUT. FILLING is a message that was written, but after several in a row that
found something unsent before them. GONE is a slot without a client. The bytes around a message
(chunk, gRPC prefix, base64) are made once for a run of the same object in `bodies` to clients of
one framing: one object per message, not copies.

The frames of a node take a shorter way: `routes()` is a table of its clients in step, and what a
node sends is read through it, so that a frame is written without asking who wants it:

    flush = routes.read(data)                   # an encoded AttachResponse
    while passed := flush.next_room(rooms, now, 256):
        sent, room, events = passed
        if room:
            found, done, strangers, events = flush.send(256)

Backends are chosen by name: `uv` writes to transports, `c` (`_edge`, where a compiler was found at
install) to sockets; `auto` is `c` where there is one. A backend keeps to `FanOut`.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from rallypoint.gateway.domain.grpcweb import Framing

Clock = Callable[[], float]


class Problem(StrEnum):
    """Why a message was not written to a client; with FILLING it was, but will not be read soon."""

    FILLING = "filling"
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
    cut_after_s: float = 15.0
    """How long a client may be skipped without a break before it is cut. Streams of rooms are told
    before, and end (`rooms_ladder`)."""
    filling_after: int = 6
    """Messages in a row that found something unsent before them, from which on FILLING is said."""


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


Sent = tuple[int, bool, "list[tuple[int, bytes]] | None", "list[Any] | None"]
"""How many clients in step were written to, whether the room is done, who is not in step with the
message that is theirs, and what happened: for `FanOut.settle`."""


Passed = tuple[int, "tuple[str, int] | None", "list[Any] | None"]
"""How many clients were written to on the way, the id and epoch of a room whose frame is to be sent
now, if any, and what happened on the way: for `FanOut.settle`, before anything else is sent."""


class Flush(Protocol):
    """One encoded AttachResponse under way. ValueError when it cannot be read."""

    @property
    def rest(self) -> bytes:
        """Everything in it but the frames, an AttachResponse of its own."""

    def next_room(self, rooms: dict[str, Any], now: float, most: int) -> Passed | None:
        """Go to a room's frame; what of the last was not sent is not. None: there is no more.

        A backend may send, to about `most`, and note (`Room.full_at`, `Room.rhythm.seen_at`) what
        comes first, as long as it is for one of `rooms`, by id, of the epoch that the room has, and
        all who get it are in step.
        """

    def send(self, most: int) -> Sent:
        """Write its messages to clients in step, to about `most`."""


class Routes(Protocol):
    """Slots of the clients of one node that are in step, by the gateway's numbers (from 1)."""

    def __setitem__(self, client: int, slot: int) -> None:
        """Write what comes for the client to the slot."""

    def __contains__(self, client: object) -> bool:
        """Whether the client is in step."""

    def __len__(self) -> int:
        """How many are."""

    def discard(self, client: int) -> None:
        """Write nothing to the client any more."""

    def clear(self) -> None:
        """Write nothing to anybody any more."""

    def read(self, data: bytes) -> Flush:
        """Take what the node sent."""


class FanOut(Protocol):
    """The interface of a backend."""

    @property
    def name(self) -> str:
        """Its name in BACKENDS."""

    def add(self, transport: Transport, framing: Framing) -> int:
        """Register a client; slots are reused, but never before their `remove`."""

    def remove(self, slot: int) -> None:
        """Forget a client. Idempotent until the slot is handed out again."""

    def push(self, slots: Sequence[int], bodies: Sequence[bytes]) -> list[tuple[int, Problem]]:
        """Write bodies[i] to slots[i]; lengths are equal. Returns only those with a problem."""

    def touch(self, slot: int) -> None:
        """Something else was written to the slot's transport: what is pushed must come after it."""

    def unsent(self, slot: int) -> int:
        """Bytes that wait in the slot's transport; 0 without a client."""

    def skipped(self, slot: int) -> bytes:
        """The message with which a client was last BEHIND, told once; empty for none."""

    def routes(self) -> Routes:
        """An empty table for one node."""

    def settle(self, events: list[Any]) -> list[tuple[int, Problem]]:
        """What a flush's events mean; only those with a problem."""

    def statistics(self) -> FanOutStatistics:
        """What happened so far."""


def socket_of(transport: Any) -> int:
    """The descriptor that a plaintext connection's bytes can be written to; -1 without one."""
    ask = getattr(transport, "get_extra_info", None)
    if ask is None or ask("sslcontext") is not None:
        return -1
    connection = ask("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return -1
    return int(connection.fileno())


def _uv(limits: FanOutLimits, *, clock: Clock) -> FanOut:
    from rallypoint.gateway.fanout_uv import UvFanOut

    return UvFanOut(limits, clock=clock)


def _c(limits: FanOutLimits, *, clock: Clock) -> FanOut:
    from rallypoint.gateway.fanout_c import CFanOut

    return CFanOut(limits, clock=clock)


BACKENDS: dict[str, Callable[..., FanOut]] = {"uv": _uv, "c": _c}
AUTO = "auto"
MODULE = "rallypoint.gateway._edge"


def is_compiled() -> bool:
    """Whether the backend in C is there."""
    try:
        importlib.import_module(MODULE)
    except ImportError:
        return False
    return True


def make(backend: str, limits: FanOutLimits, *, clock: Clock) -> FanOut:
    """The fan-out of the named backend. KeyError for a name that is not in BACKENDS, ImportError
    for `c` where nothing was compiled."""
    if backend == AUTO:
        backend = "c" if is_compiled() else "uv"
    return BACKENDS[backend](limits, clock=clock)
