"""The gateway's hot paths in C (`_edge*.c`), made at install where there is a compiler.

One thread only, the event loop's. `Sender` knows sockets by the slots of a fan-out (`fanout_c`);
`Routes` is `fanout.Routes`, `Flush` is `fanout.Flush`.
"""

from typing import Any

PYTHON: int
"""An event of a message: it could not be written here; comes with the message."""
FULL: int
"""The socket took nothing; comes with the message, for the transport."""
BROKEN: int
"""The socket is broken."""
SHORT: int
"""The socket took a part; comes with the bytes that must follow before any other."""
AGAIN: int
"""It was written, the first one since FULL or BROKEN."""

Event = tuple[int, int, bytes]
"""Slot, one of the above, bytes."""

class Sender:
    """Sockets by slot."""

    def add(self, slot: int, fd: int, call: int = 0, /) -> None:
        """Take a slot, touched; fd -1: everything for it becomes PYTHON events.

        `call` is the stream's number within a WebSocket; 0: it has a connection of its own.
        """

    def remove(self, slot: int, /) -> None:
        """Forget a slot."""

    def touch(self, slot: int, /, *, touched: bool) -> bool:
        """Note whether something may wait before what comes next; whether there is a socket."""

    def push(self, slots: list[int], bodies: list[bytes], /) -> list[Event] | None:
        """Write bodies[i], framed as the slot wants it, to slots[i]. From 24 clients of the same
        body on without the GIL."""

    def counts(self) -> tuple[int, int]:
        """Messages and bytes written."""

class Routes:
    """Slots of a sender by client number."""

    def __init__(self, sender: Sender, /) -> None: ...
    def __setitem__(self, client: int, slot: int, /) -> None: ...
    def __getitem__(self, client: int, /) -> int: ...
    def __delitem__(self, client: int, /) -> None: ...
    def __contains__(self, client: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def discard(self, client: int, /) -> None: ...
    def clear(self) -> None: ...
    def read(self, data: bytes, /) -> Flush: ...

class Drain:
    """Connections whose requests are known but for their inputs: an epoll of their own."""

    def arm(
        self,
        fd: int,
        owner: object,
        call: int,
        before: bytes,
        after: bytes,
        answer: bytes,
        token: bytes,
        seat: bytes,
        room: object,
        bucket: object,
        until_s: float,
        now: float,
        /,
    ) -> int:
        """Read a socket from now on, for requests that are

            before · content-length · after · flag 0 · length · token · fields (domain/inputs.py)

        and get `answer`; with `call` above 0 for masked WebSocket messages, of which none is
        answered (domain/websocket_calls.py):

            call · flag 0 · length · token · fields

        The fields go on behind `seat` to `room.node`, while that is there,
        `room.hold` is None, `until_s` is ahead and the bucket (`buckets.Bucket`) is not empty.
        """

    def disarm(self, slot: int, /) -> None:
        """Read it no more. KeyError when it has been given back."""

    def seen_at(self, slot: int, /) -> float:
        """When the last request was taken, or it was armed."""

    def drain(
        self, now: float, now_s: float, lead_s: float, interval_s: float, depth_s: float, /
    ) -> tuple[
        int, list[tuple[Any, bytes, int, float, float]], list[tuple[Any, bytes, bytes]], bool
    ]:
        """Take what came: how many inputs; node, AttachRequest fields, count, how long they may
        wait, and how long those could that may wait at all (0: none may); owners given back
        (disarmed) with what came and what of an answer is unsent; whether there may be more. A
        bucket gains a token each `interval_s` up to `depth_s` of them.
        Reads and writes without the GIL."""

    def fileno(self) -> int:
        """Readable when something came."""

    def close(self) -> None:
        """Disarm everything."""

class Flush:
    """An encoded AttachResponse under way."""

    @property
    def rest(self) -> bytes: ...
    def next_room(
        self, rooms: dict[str, Any], now: float, most: int, /
    ) -> tuple[int, tuple[str, int] | None, list[Event] | None] | None: ...
    def send(
        self, most: int, /
    ) -> tuple[int, bool, list[tuple[int, bytes]] | None, list[Event] | None]: ...
