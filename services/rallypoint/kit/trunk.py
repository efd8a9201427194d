"""A trunk: one plain connection that carries the messages of a stream of gRPC more cheaply.

A message over `grpc.aio` costs a thread's wake-up and several tasks at both ends, whatever it
holds; over a trunk it costs a part of a system call. gRPC stays the contract: it authenticates the
peers, opens the stream, offers the trunk (`trunk_listener`) and says when the stream has ended.

    trunk = await connect(host, port, token, message_bytes_max=…)
    trunk.start(received=…, writable=…)         # until then what comes waits
    trunk.send(message)                         # never waits; look at `is_full` first
    await trunk.wait_lost()

On the connection: the token, then messages, each behind its length (four bytes, little endian).
What is no such thing breaks the trunk. A peer that is gone or takes nothing for `PEER_GONE_S`
breaks it as well: TCP itself looks after that, without a timer of ours.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from rallypoint.kit import rpc

logger = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32
LENGTH_BYTES: Final = 4
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""As gRPC's own bound of our channels."""
FULL_BYTES: Final = 256 * 1024
"""Unsent bytes above which a trunk is full."""
PEER_GONE_S: Final = 10
"""As the keep-alive of our channels notices."""
HANDSHAKE_S: Final = 5.0
"""How long connecting, and proving by the token, may take."""


_MIN_RTT: Final = slice(148, 152)
"""`tcpi_min_rtt` in the kernel's tcp_info, microseconds."""


class Malformed(Exception):
    """What came is no message of a trunk."""


class Splitter:
    """Finds messages in a stream of bytes, and holds at most one that is not complete."""

    __slots__ = ("_most", "_pieces", "_size", "_wanted")

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._most = message_bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = LENGTH_BYTES

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Iterate over the messages that `data` completes, to the end; Malformed for an empty one
        or one above the bound."""
        if self._pieces:
            self._pieces.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, end = 0, len(data)
        self._wanted = LENGTH_BYTES
        while (start := at + LENGTH_BYTES) <= end:
            size = int.from_bytes(data[at:start], "little")
            if not 0 < size <= self._most:
                raise Malformed(f"a message of {size} bytes")
            if start + size > end:
                self._wanted = LENGTH_BYTES + size
                break
            at = start + size
            yield data[start:at]
        if at < end:
            self._pieces.append(data[at:])
            self._size = end - at


class Trunk(asyncio.Protocol):
    """One connection whose peer has proved itself. Single loop, no locks."""

    def __init__(
        self, transport: asyncio.Transport, *, message_bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self._transport = transport
        self._splitter = Splitter(message_bytes_max)
        self._received: Callable[[bytes], None] | None = None
        self._writable: Callable[[], None] = _nothing
        self._when_lost: Callable[[], None] = _nothing
        self._lost = asyncio.Event()
        self._early: list[bytes] = []
        self.is_full = False
        """Whether the peer reads more slowly than we send: what is sent now is buffered."""
        self.error: Exception | None = None
        """Why it is over, unless a peer ended it in good order."""
        transport.set_write_buffer_limits(high=FULL_BYTES)
        transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """Whether it is over."""
        return self._lost.is_set()

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Have it called at the end, which may have been already."""
        self._when_lost = callback
        if self.is_lost:
            callback()

    def start(self, *, received: Callable[[bytes], None], writable: Callable[[], None]) -> None:
        """Hand on what comes. `writable` is called when it is no longer full; an exception of
        `received` breaks the trunk."""
        self._received, self._writable = received, writable
        early, self._early = b"".join(self._early), []
        if early:
            self.data_received(early)
        self.resume_reading()

    def pause_reading(self) -> None:
        """Take nothing off the socket; what has come already is still handed on."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def send(self, message: bytes) -> None:
        """Send or buffer one message; nothing happens once the trunk is over."""
        if self._transport.is_closing():
            return
        try:
            self._transport.writelines((len(message).to_bytes(LENGTH_BYTES, "little"), message))
        except RuntimeError:  # uvloop's, between a reset and `connection_lost`
            self.abort()

    def finish(self) -> None:
        """Send what is buffered, then no more; the peer ends the connection."""
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS
            self._transport.close()

    def abort(self) -> None:
        """End at once; neither what is buffered is sent nor what comes is taken."""
        self._received = _ignore
        self._transport.abort()

    def round_trip_s(self) -> float:
        """The shortest round trip that TCP has seen in these minutes; 0: unknown."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        try:
            said = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT.stop)
        except OSError:
            return 0.0
        return int.from_bytes(said[_MIN_RTT], sys.byteorder) * 1e-6

    async def wait_lost(self) -> None:
        """Return when it is over."""
        await self._lost.wait()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete; before `start` nothing more is read."""
        if self._received is None:
            self._early.append(data)
            self.pause_reading()
            return
        try:
            for message in self._splitter.feed(data):
                self._received(message)
        except Malformed as problem:
            logger.warning("trunk_malformed", extra={"error": str(problem)})
            self.abort()
        except Exception:
            # Whoever talks nonsense loses its own trunk and nothing else.
            logger.exception("trunk_failed")
            self.abort()

    def pause_writing(self) -> None:
        """Note that the peer reads slowly."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Note that it caught up."""
        self.is_full = False
        self._writable()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits for the end."""
        self._received = _ignore
        self.error = error
        self._lost.set()
        self._when_lost()


def _nothing() -> None:
    """Tell nobody."""


def _ignore(message: bytes) -> None:
    """Take a message that nobody wants any more."""


async def connect(
    host: str, port: int, token: bytes, *, message_bytes_max: int = MESSAGE_BYTES_MAX
) -> Trunk:
    """Open the trunk that a peer offered, over TLS where internal channels speak it.

    Nothing says whether the peer takes the token: it begins to use the trunk, or ends it. OSError
    (TimeoutError) when it cannot be reached.
    """
    tls = rpc.mutual_tls()
    secured: dict[str, Any] = {}
    if tls is not None:
        secured = {"ssl": tls.calling, "server_hostname": tls.server_name or host}
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(HANDSHAKE_S):
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port, **secured)
    watch_peer(transport)
    trunk = Trunk(transport, message_bytes_max=message_bytes_max)
    transport.write(token)
    return trunk


def watch_peer(transport: asyncio.BaseTransport) -> None:
    """Have TCP break the connection when its peer is gone or takes nothing for `PEER_GONE_S`."""
    connection: socket.socket = transport.get_extra_info("socket")
    half_s = PEER_GONE_S // 2
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, half_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, half_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_GONE_S * 1000),
    ):
        connection.setsockopt(level, option, value)
