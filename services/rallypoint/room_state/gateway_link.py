"""What goes to one gateway over its Attach stream: over gRPC, or over the trunk once there is one.

What gRPC has not taken yet leaves as one message, since encoded AttachResponses can simply be
joined; so does what a full trunk has not. Overflow policy: when more than the limit waits, frames
are refused (`frames` returns False), and the gateway's clients get keyframes once it reads again;
the rest (joins, replies, kicks, controls) is always taken, because it is bounded by what the
gateway itself asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit.trunk import Trunk
from rallypoint.kit.trunk_listener import TrunkListener

if TYPE_CHECKING:
    from rallypoint.room_state.hosted import HostedRoom, Stream

_TRUNK_BEGINS = host.AttachResponse(trunk_begins=True)


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
        self._trunk: Trunk | None = None
        self._held: list[bytes] = []
        """What the trunk is too full for."""
        self._withdraw: Callable[[], None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the stream is over."""
        return self._closed

    def say(self, response: host.AttachResponse) -> None:
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
        if self._closed:
            return
        self._closed = True
        if self._trunk is not None:
            self._flush(self._trunk)
            self._trunk.finish()
        self._wake.set()

    def abort(self) -> None:
        """End the stream at once."""
        self._closed = True
        if self._withdraw is not None:
            self._withdraw()
        if self._trunk is not None:
            self._trunk.abort()
        self._wake.set()

    async def responses(self) -> AsyncIterator[bytes]:
        """Encoded responses for gRPC until closed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                self._size -= len(data)
                yield data
                self._wake.set()
            elif self._closed:
                return

    # --- the trunk ---

    def offer_trunk(self, trunks: TrunkListener) -> None:
        """Offer the gateway a trunk, once."""
        if self._withdraw is None and not self._closed:
            offer = trunks.offer(self._take_trunk)
            self._withdraw = functools.partial(trunks.withdraw, offer)
            said = host.TrunkOffer(port=offer.port, token=offer.token)
            self.say(host.AttachResponse(trunk=said))

    def _take_trunk(self, trunk: Trunk) -> None:
        """Send everything over the trunk after this word, the last over gRPC."""
        if self._closed:
            trunk.abort()
            return
        self.say(_TRUNK_BEGINS)
        self._trunk = trunk
        trunk.when_lost(self.close)

    def read_trunk(self, received: Callable[[bytes], None]) -> None:
        """Take requests off the trunk from now on. ValueError when there is none."""
        trunk = self._trunk
        if trunk is None:
            raise ValueError("no trunk to begin with")
        trunk.start(received=received, writable=lambda: self._flush(trunk))
        if not trunk.is_full:  # it may have drained before, when nobody was told of it
            self._flush(trunk)

    async def wait_read(self, limit_s: float) -> None:
        """Return when the gateway has read the trunk to its end, or after a time."""
        if self._trunk is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._trunk.wait_lost()

    def forget(self, client: int) -> None:
        """A client's stream is over or has gone to another place."""
        self.streams.pop(client, None)
        self.rooms.pop(client, None)

    def _add(self, data: bytes) -> None:
        if self._closed:
            return
        trunk = self._trunk
        if trunk is None:
            self._pending.append(data)
            self._size += len(data)
            self._wake.set()
        elif trunk.is_full or self._held:
            self._held.append(data)
            self._size += len(data)
        else:
            trunk.send(data)

    def _flush(self, trunk: Trunk) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._size -= len(data)
            trunk.send(data)
