"""The gateway's hot paths in C (`_edge*.c`), made at install where there is a compiler.

One thread only, the event loop's. `Sender` knows sockets by the slots of a fan-out (`fanout_c`);
`Routes` is `fanout.Routes`, `Flush` is `fanout.Flush`.
"""

PYTHON: int
"""An event of a message: it could not be written here; comes with the message."""
FULL: int
"""The socket took nothing; the message is dropped, whole."""
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

class Flush:
    """An encoded AttachResponse under way."""

    @property
    def rest(self) -> bytes: ...
    def next_room(self) -> tuple[str, int] | None: ...
    def send(
        self, most: int, /
    ) -> tuple[int, bool, list[tuple[int, bytes]] | None, list[Event] | None]: ...
