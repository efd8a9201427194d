"""What goes to one gateway over its Attach stream.

Pending responses leave as one message, since encoded AttachResponses can simply be joined. Overflow
policy: when more than the limit waits, frames are refused (`frames` returns False), and the
gateway's clients get keyframes once it reads again; the rest (joins, replies, kicks, controls) is
always taken, because it is bounded by what the gateway itself asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from rallypoint.internal.v1.room_host_pb2 import AttachResponse

if TYPE_CHECKING:
    from rallypoint.room_state.hosted import HostedRoom, Stream


class GatewayLink:
    """One Attach stream, as the rooms see it."""

    def __init__(self, gateway_id: str, *, limit_bytes: int) -> None:
        self.gateway_id = gateway_id
        self.streams: dict[int, Stream] = {}
        self.rooms: dict[int, HostedRoom] = {}
        self._limit = limit_bytes
        self._pending: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the stream is over."""
        return self._closed

    def say(self, response: AttachResponse) -> None:
        """Send a word that must arrive."""
        self._add(response.SerializeToString())

    def frames(self, data: bytes) -> bool:
        """Send frames; False when the gateway reads too slowly to take them."""
        if self._size + len(data) > self._limit:
            return False
        self._add(data)
        return True

    def close(self) -> None:
        """End the stream after what is pending."""
        self._closed = True
        self._wake.set()

    async def responses(self) -> AsyncIterator[bytes]:
        """Encoded responses until closed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                self._size = 0
                yield data
                self._wake.set()
            elif self._closed:
                return

    def forget(self, client: int) -> None:
        """A client's stream is over or has gone to another place."""
        self.streams.pop(client, None)
        self.rooms.pop(client, None)

    def _add(self, data: bytes) -> None:
        if self._closed:
            return
        self._pending.append(data)
        self._size += len(data)
        self._wake.set()
