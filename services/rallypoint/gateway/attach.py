"""The Attach stream to one room node: batches up, responses down, made anew when it breaks.

    link = Link(address, owner=…, gateway_id=…, settings=…)
    task: await link.run()                      # until closed
    link.input(encoded, now=…, rhythm=…)        # hot: one list append
    link.control(lambda request: request.…)     # joins, leaves, messages, resyncs

It begins over gRPC and goes on over a trunk where the node offers one that can be reached
(`attach_trunk`); gRPC then says only when it is over.

What is pending leaves in one AttachRequest: joins and messages at once, an input when the time it
may wait is over (`domain.rhythm`), with all that came meanwhile. While the node is out of reach
inputs wait a moment, then are dropped (clients send all that is unacknowledged again), and the
owner is told, so that it can say everything else anew: the first request of every stream is the
owner's `greeting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from rallypoint.gateway.attach_trunk import TrunkWay
from rallypoint.gateway.domain.rhythm import Rhythm
from rallypoint.internal.v1.room_host_pb2 import AttachRequest, ClientMessage, TrunkOffer
from rallypoint.kit import rpc, waiting
from rallypoint.kit.trunk import Trunk

log = logging.getLogger(__name__)

METHOD = "/rallypoint.internal.v1.RoomHostService/Attach"
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0
_LAST_WORDS_S = 1.0
"""How long a trunk may bring what came before the end of its stream."""
_GRPC_WAY_S = 0.004
"""The way to a node over gRPC, whose round trip nobody tells us."""
_WAY_TICKS = 20
"""The round trip to a node, which TCP has measured for minutes, is asked for once in so many ticks:
a system call costs more than all else that a tick's arrival does here."""
_SOON_S = 0.0015
"""What may wait no longer than that leaves at once: the next look at a timer may be too late."""
_SHORT_S = 10.0
_SHORT_LIVES_MAX = 3
"""After so many trunks in a row that broke so soon a stream does without."""
_TRUNK_BEGINS = AttachRequest(trunk_begins=True).SerializeToString()


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a link batches and how much it holds."""

    flush_s: float = 0.002
    """How long an input that came alone waits for company at least."""
    tick_lead_s: float = 0.005
    """How long before a room's next tick its inputs leave, besides the way to the node: timers
    count in milliseconds, on both sides, and a machine may be busy. What comes later is sent at
    once and may still be in time."""
    held_s: float = 0.5
    """How long inputs wait for a node that is away; older ones are repeated by their clients."""
    pending_inputs_max: int = 8192
    """Inputs held for a node that takes them slowly; above it the newest are dropped."""
    pending_messages_max: int = 1024
    """Messages of players held for it, 4 KiB each at most; above it the newest are refused."""
    trunks: bool = True
    """Whether streams may leave gRPC for a trunk."""


class _Ended(Exception):
    """The stream is over without an error."""


class Owner(Protocol):
    """Who uses a link."""

    def greeting(self) -> AttachRequest:
        """What a new stream must say first: all clients that are held for this node."""

    def received(self, response: bytes) -> Iterable[None]:
        """Take one encoded AttachResponse step by step; between two of them others have a turn."""

    def detached(self) -> None:
        """The stream broke; what was sent may or may not have arrived."""


class Link:
    """One node's stream. Single loop, no locks: callers and `run` share the event loop."""

    def __init__(
        self, address: str, *, owner: Owner, gateway_id: str, settings: LinkSettings
    ) -> None:
        self.address = address
        self.attached = False
        self._owner = owner
        self._gateway_id = gateway_id
        self._settings = settings
        self._control = AttachRequest()
        self._inputs: list[bytes] = []
        self._held_inputs = 0
        self._armed: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()
        self._way: TrunkWay | None = None
        self._begins: Trunk | None = None
        """The node uses it; what we say goes there after one last request over gRPC."""
        self._trunk: Trunk | None = None
        """We use it too."""
        self._flushing = False
        self._ahead_s = self._way_s = _GRPC_WAY_S
        self._way_known = 0
        """For how many more ticks."""
        self._short_lives = 0
        self.dropped_inputs = 0

    @property
    def way(self) -> str:
        """How the node is reached: trunk, grpc, or away."""
        if not self.attached:
            return "away"
        return "grpc" if self._trunk is None else "trunk"

    @property
    def tick_lead_s(self) -> float:
        """How long before a tick its inputs leave."""
        return self._settings.tick_lead_s

    def input(self, encoded: bytes, *, now: float, rhythm: Rhythm) -> None:
        """Take one encoded `inputs` field of an AttachRequest."""
        settings = self._settings
        wait_s = rhythm.wait_s(now, lead_s=settings.tick_lead_s) - self._ahead_s
        self._hold(encoded, count=1, due_s=now + max(wait_s, settings.flush_s))

    def inputs(self, encoded: bytes, *, count: int, now: float, wait_s: float) -> float:
        """Take `count` encoded `inputs` fields, of which none may leave later than `wait_s` from
        now, the way to the node not counted; how long they will wait."""
        wait_s = max(0.0, wait_s - self._ahead_s)
        self._hold(encoded, count=count, due_s=now + wait_s)
        if wait_s <= _SOON_S and self.attached:
            self._go()
        return wait_s

    def _hold(self, encoded: bytes, *, count: int, due_s: float) -> None:
        if self._held_inputs + count > self._settings.pending_inputs_max:
            self.dropped_inputs += count
            return
        self._inputs.append(encoded)
        self._held_inputs += count
        if self._armed is None or due_s < self._due_s:
            self._arm(due_s)

    def ticked(self, late_s: float) -> None:
        """Frames came that left the node so long after their tick was due; the next will be due as
        if they had not been late."""
        self._way_known -= 1
        if self._way_known < 0:
            self._way_known = _WAY_TICKS
            self._way_s = _GRPC_WAY_S if self._trunk is None else self._trunk.round_trip_s()
        self._ahead_s = late_s + self._way_s

    def control(self, write: Callable[[AttachRequest], object]) -> bool:
        """Let `write` add to the next request, sent at once; False while the node is away."""
        if not self.attached:
            return False
        write(self._control)
        self._soon()
        return True

    def message(self, message: ClientMessage) -> bool:
        """Let a player's message leave; False while the node is away or takes too little."""
        if len(self._control.messages) >= self._settings.pending_messages_max:
            return False
        return self.control(lambda request: request.messages.append(message))

    def trunk_offered(self, offer: TrunkOffer) -> None:
        """The node lets us open a trunk."""
        if self._way is not None:
            self._way.offered(offer)

    def trunk_begins(self) -> None:
        """The node says nothing more over gRPC. ConnectionError when there is no trunk."""
        if self._way is None:
            raise ConnectionError("no trunk to begin with")
        self._begins = self._way.begin()
        self._wake.set()

    def close(self) -> None:
        """Let `run` return."""
        self._closed.set()

    def _arm(self, due_s: float) -> None:
        """See to it that what is pending leaves in time, or is forgotten while the node is away."""
        loop = asyncio.get_running_loop()
        if self.attached:
            self._disarm()
            self._due_s = due_s
            self._armed = loop.call_at(due_s, self._go)
        elif self._armed is None:
            self._armed = loop.call_later(self._settings.held_s, self._drop_held)

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _drop_held(self) -> None:
        self._armed = None
        self.dropped_inputs += self._held_inputs
        self._held_inputs = 0
        self._inputs.clear()

    async def run(self) -> None:
        """Hold the stream until `close`, with back-off between attempts."""
        backoff_s = _BACKOFF_FIRST_S
        while not self._closed.is_set():
            started = asyncio.get_running_loop().time()
            await self._once()
            if asyncio.get_running_loop().time() - started > _BACKOFF_MAX_S:
                backoff_s = _BACKOFF_FIRST_S
            await waiting.happens(self._closed, backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)

    async def _once(self) -> None:
        """One stream, from its greeting to its end."""
        channel = rpc.channel(self.address, name="gateway")
        try:
            await self._converse(channel)
        except* (grpc.aio.AioRpcError, asyncio.InvalidStateError, ConnectionError) as broken:
            cause = "; ".join(_describe(problem) for problem in broken.exceptions)
            log.info("attach_broken", extra={"node": self.address, "error": cause})
        except* Exception:
            # A node that talks nonsense costs its own stream, never the gateway.
            log.exception("attach_failed", extra={"node": self.address})
        finally:
            self._forget()
            await channel.close()

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        # Both ways are bytes: inputs are joined and frames cut out without protobuf objects.
        open_stream: Any = channel.stream_stream(
            METHOD, request_serializer=None, response_deserializer=None
        )
        call: Any = open_stream()
        self._way = TrunkWay(self.address, received=self._owner.received, writable=self._flush)
        try:
            greeting = self._owner.greeting()
            greeting.gateway_id = self._gateway_id
            greeting.trunk_wanted = self._wants_trunk()
            # From here on, what is said follows the greeting; held inputs do so at once.
            self.attached = True
            self._wake.set()
            await call.write(greeting.SerializeToString())
            log.info("attached", extra={"node": self.address})
            await self._pump(call, self._way)
        finally:
            call.cancel()

    async def _pump(self, call: Any, way: TrunkWay) -> None:
        """Write and read until the node ends the stream, it breaks or the link is closed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(call), name=f"attach-write {self.address}")
                tasks.create_task(self._end_when_closed(), name=f"attach-close {self.address}")
                tasks.create_task(self._carry(way), name=f"attach-trunk {self.address}")
                await self._read(call)
        except* _Ended:
            log.info("attach_ended", extra={"node": self.address})

    async def _end_when_closed(self) -> None:
        await self._closed.wait()
        if self._trunk is not None:
            self._flush()
            self._trunk.finish()
            await self._until_lost(self._trunk)
        raise _Ended

    # --- over gRPC ---

    async def _write(self, call: Any) -> None:
        """Write until what is said goes over the trunk."""
        while self._trunk is None:
            await self._wake.wait()
            self._wake.clear()
            batch, begins = self._take(), self._begins
            if begins is not None:
                batch += _TRUNK_BEGINS
            if batch:
                await call.write(batch)
            self._trunk = begins
        self._way_known = 0
        self._flush()

    async def _read(self, call: Any) -> None:
        received = self._owner.received
        while True:
            response = await call.read()
            if response is grpc.aio.EOF:
                break
            for _ in received(response):
                await asyncio.sleep(0)
        if self._begins is not None:
            await self._until_lost(self._begins)
        raise _Ended

    # --- over a trunk ---

    def _wants_trunk(self) -> bool:
        if self._short_lives < _SHORT_LIVES_MAX:
            return self._settings.trunks
        self._short_lives = 0
        return False

    async def _carry(self, way: TrunkWay) -> None:
        """Open the trunk that is offered; the stream is over when it is."""
        try:
            await way.run()
        except ConnectionError:
            self._short_lives = self._short_lives + 1 if way.lived_s < _SHORT_S else 0
            raise
        if self._begins is not None:
            raise _Ended

    async def _until_lost(self, trunk: Trunk) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await trunk.wait_lost()

    def _go(self) -> None:
        """Let what is pending leave."""
        if self._trunk is None:
            self._wake.set()
        else:
            self._flush()

    def _soon(self) -> None:
        """The same, with all that is said in this turn of the event loop."""
        if self._trunk is None:
            self._wake.set()
        elif not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        trunk = self._trunk
        if trunk is not None and not trunk.is_full and (batch := self._take()):
            trunk.send(batch)

    def _take(self) -> bytes:
        """Everything pending as one encoded AttachRequest."""
        self._disarm()
        batch = b"".join([self._control.SerializeToString(), *self._inputs])
        self._inputs.clear()
        self._held_inputs = 0
        self._control.Clear()
        return batch

    def _forget(self) -> None:
        """The stream is over: what was to be said will be in the next greeting, inputs are held."""
        self.attached = False
        self._way = self._begins = self._trunk = None
        self._way_known = 0
        self._control.Clear()
        self._wake.clear()
        self._disarm()
        if self._inputs:
            self._arm(0.0)
        self._owner.detached()


def _describe(problem: Exception) -> str:
    if isinstance(problem, grpc.aio.AioRpcError):
        return f"{problem.code().name} {problem.details()}"
    return repr(problem)
