"""The gateway's end of an Attach stream's trunk (`kit.trunk`): opened when the node offers it.

way = TrunkWay(address, received=owner.received, writable=…)
task: await way.run()                       # until the trunk is over
way.offered(offer)
way.begin()                                 # the node's word over gRPC: it sends here now
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from rallypoint.internal.v1.room_host_pb2 import TrunkOffer
from rallypoint.kit import trunk
from rallypoint.kit.trunk import Trunk

log = logging.getLogger(__name__)

Received = Callable[[bytes], Iterable[None]]
"""Takes a response step by step; between two steps others have a turn."""
WAITING_BYTES_MAX = 1024 * 1024
"""Responses that wait for their turn; with more of them the socket is not read."""


class Turns:
    """Takes responses one after the other, step by step, as they come."""

    def __init__(self, received: Received, way: Trunk) -> None:
        self._received = received
        self._trunk = way
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._steps: Iterator[None] | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def busy(self) -> bool:
        """Whether a response is under way."""
        return self._steps is not None

    def take(self, response: bytes) -> None:
        """Take a response now, or after those before it."""
        if self._steps is None:
            self._steps = iter(self._received(response))
            self._turn()
            return
        self._waiting.append(response)
        self._size += len(response)
        if self._size > WAITING_BYTES_MAX:
            self._trunk.pause_reading()

    def stop(self) -> None:
        """Take no more."""
        self._waiting.clear()
        self._steps = None

    def _turn(self) -> None:
        try:
            self._advance()
        except Exception:
            # A node that talks nonsense costs its own stream, never the gateway.
            log.exception("attach_failed")
            self.stop()
            self._trunk.abort()

    def _advance(self) -> None:
        while self._steps is not None:
            for _ in self._steps:
                self._loop.call_soon(self._turn)
                return
            self._steps = None
            if self._waiting:
                response = self._waiting.popleft()
                self._size -= len(response)
                if not self._waiting:
                    self._trunk.resume_reading()
                self._steps = iter(self._received(response))


class TrunkWay:
    """One trunk from its offer to its end."""

    def __init__(self, address: str, *, received: Received, writable: Callable[[], None]) -> None:
        self._host = address.rpartition(":")[0].strip("[]")
        self._received = received
        self._writable = writable
        self._offer: asyncio.Future[TrunkOffer] = asyncio.get_running_loop().create_future()
        self._turns: Turns | None = None
        self._began_at = 0.0
        self.trunk: Trunk | None = None
        """There once it is open; not used before the node has said so."""

    @property
    def lived_s(self) -> float:
        """For how long it has been in use."""
        return asyncio.get_running_loop().time() - self._began_at if self._turns else 0.0

    def offered(self, offer: TrunkOffer) -> None:
        """The node lets us open it."""
        if not self._offer.done():
            self._offer.set_result(offer)

    async def run(self) -> None:
        """Open it and return when it is over, once all that came was taken; ConnectionError when it
        broke. One that cannot be opened, or is over before it was used, is only logged."""
        offer = await self._offer
        try:
            self.trunk = await trunk.connect(self._host, offer.port, offer.token)
        except OSError as problem:
            log.info("trunk_unreachable", extra={"node": self._host, "error": repr(problem)})
            return
        try:
            await self.trunk.wait_lost()
            while self._turns is not None and self._turns.busy:  # noqa: ASYNC110  # its turns
                await asyncio.sleep(0)
        finally:
            self.trunk.abort()
            if self._turns is not None:
                self._turns.stop()
        if self._turns is not None and self.trunk.error is not None:
            raise ConnectionError(f"the trunk broke: {self.trunk.error!r}")

    def begin(self) -> Trunk:
        """Take responses off it from now on. ConnectionError when it is over already."""
        if self.trunk is None or self.trunk.is_lost:
            raise ConnectionError("the trunk is gone")
        loop = asyncio.get_running_loop()
        self._began_at = loop.time()
        self._turns = Turns(self._received, self.trunk)
        # Not before the response that says so has been taken.
        loop.call_soon(self._start, self.trunk, self._turns)
        return self.trunk

    def _start(self, opened: Trunk, turns: Turns) -> None:
        opened.start(received=turns.take, writable=self._writable)
