"""Reading streams in order, for tails and watches; `bus_work` has the workers.

A feed is an ephemeral push consumer on an inbox of its own. It is made anew, from the next
sequence, whenever its deliveries show a gap, its heartbeats stop, or the connection came back. Flow
control is answered in turn with the messages, so a slow reader slows the server and loses nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rallypoint.kit import bus_wire, names

if TYPE_CHECKING:
    from rallypoint.kit.bus import Bus, Message, Subscription

logger = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
SILENCE_S = 3 * HEARTBEAT_S
RETRY_S = 0.1
_RETRY_MAX_S = 2.0
_STORED_TRIES = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """A stored message. `pending` tells how many more were there when it was sent."""

    seq: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    pending: int = 0


class Restart(Exception):
    """The consumer must be made anew."""


class Feed:
    """An inbox and its present consumer. Use as an async context manager; for one reader."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._expected = 1
        self._subscription: Subscription | None = None
        self._forget = bus.on_reconnect(self._on_reconnect)

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, *unused: object) -> None:
        self._forget()
        await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    def _on_reconnect(self) -> None:
        self._queue.put_nowait(None)

    async def fresh_inbox(self) -> str:
        """Leave the old inbox with all that is in it; return a new one, listened to.

        Literal, one per consumer: the server does not see interest through a wildcard. Raises
        BusUnavailable.
        """
        await self._unsubscribe()
        self._expected = 1
        self._queue = asyncio.Queue()
        inbox = self._bus.new_inbox()
        self._subscription = await self._bus.subscribe(inbox, self._queue.put_nowait)
        return inbox

    async def open(
        self,
        stream: str,
        subject: str,
        start: int | datetime.datetime | None,
        *,
        headers_only: bool = False,
    ) -> int:
        """Make the consumer; return how many messages it will deliver that exist already.

        Raises BusUnavailable or ApiRefused.
        """
        name = names.new_id()
        config = bus_wire.feed_config(
            filter_subject=subject,
            deliver_subject=await self.fresh_inbox(),
            start=start,
            heartbeat_s=HEARTBEAT_S,
            headers_only=headers_only,
        )
        made = await self._bus.api(
            f"CONSUMER.CREATE.{stream}.{name}",
            {"stream_name": stream, "config": config | {"name": name}},
        )
        return int(made["num_pending"]) + int(made["delivered"]["consumer_seq"])

    async def next(self) -> Fact:
        """Return the next fact in order; raises Restart when the consumer is no good any more."""
        while (fact := await self.next_or_idle()) is None:
            pass
        return fact

    async def next_or_idle(self) -> Fact | None:
        """The same, but None when the consumer has delivered all that there is: what it was to
        deliver when it was made may have expired meanwhile."""
        while True:
            message = await self.receive(SILENCE_S)
            if message.headers.get("Status"):
                if await self._control(message):
                    return None
                continue
            position = bus_wire.parse_position(message.reply)
            if position.consumer_seq != self._expected:
                raise Restart
            self._expected += 1
            return Fact(
                position.stream_seq,
                message.subject,
                message.data,
                message.headers,
                position.pending,
            )

    async def receive(self, silence_s: float) -> Message:
        """Return the next message; raises Restart on silence or after a reconnect."""
        try:
            message = self._queue.get_nowait()
        except asyncio.QueueEmpty:
            message = await self._wait(silence_s)
        if message is None:
            raise Restart
        return message

    async def _wait(self, silence_s: float) -> Message | None:
        try:
            async with asyncio.timeout(silence_s):
                return await self._queue.get()
        except TimeoutError:
            raise Restart from None

    def has_more(self) -> bool:
        """Whether `receive` would not wait."""
        return not self._queue.empty()

    def waiting(self) -> list[Message]:
        """Return what has come and was not received yet."""
        found = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        for message in found:
            self._queue.put_nowait(message)
        return [message for message in found if message is not None]

    async def _control(self, message: Message) -> bool:
        """Answer flow control; see in a heartbeat whether messages were lost. Whether it was one
        of a consumer that has nothing more to deliver."""
        if message.reply:
            await self._bus.publish(message.reply, b"")
        if stalled := message.headers.get("Nats-Consumer-Stalled"):
            await self._bus.publish(stalled, b"")
        last = message.headers.get("Nats-Last-Consumer")
        if last is not None and int(last) >= self._expected:
            raise Restart
        return last is not None and not stalled


async def ordered(
    bus: Bus, stream: str, subject: str, *, start_seq: int, since_s: float | None
) -> AsyncGenerator[Fact, None]:
    """See Bus.ordered."""
    next_seq = max(1, start_seq)
    since = None if since_s is None else datetime.datetime.fromtimestamp(since_s, datetime.UTC)
    wait_s = RETRY_S
    async with Feed(bus) as feed:
        while True:
            try:
                next_seq = await _present(bus, stream, next_seq)
                await feed.open(stream, subject, since or next_seq)
                while True:
                    fact = await feed.next()
                    next_seq, wait_s, since = fact.seq + 1, RETRY_S, None
                    yield fact
            except Restart:
                wait_s = RETRY_S
            except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
                logger.info("feed_waits", extra={"stream": stream, "reason": str(error)})
            wait_s = await backed_off(wait_s)


async def stored(
    bus: Bus, stream: str, subject: str, *, start_seq: int
) -> AsyncGenerator[Fact, None]:
    """See Bus.stored."""
    next_seq, tries = max(1, start_seq), 0
    async with Feed(bus) as feed:
        while True:
            try:
                if not await feed.open(stream, subject, next_seq):
                    return
                while (fact := await feed.next_or_idle()) is not None:
                    next_seq, tries = fact.seq + 1, 0
                    yield fact
                    if not fact.pending:
                        return
                return
            except Restart:
                tries += 1
                if tries >= _STORED_TRIES:
                    raise bus_wire.BusUnavailable(f"{stream} cannot be read now") from None
                await asyncio.sleep(RETRY_S)


async def newest(bus: Bus, stream: str, subject: str) -> AsyncGenerator[Fact, None]:
    """See Bus.newest."""
    async with Feed(bus) as feed:
        try:
            to_come = await feed.open(stream, subject, None, headers_only=True)
            for _ in range(to_come):
                if (fact := await feed.next_or_idle()) is None:
                    return
                yield fact
        except Restart:
            raise bus_wire.BusUnavailable(f"{stream} cannot be read now") from None


async def _present(bus: Bus, stream: str, next_seq: int) -> int:
    """Return the sequence to go on at: 1 when the stream is younger than what we have read."""
    info = await bus.api(f"STREAM.INFO.{stream}")
    if int(info["state"]["last_seq"]) < next_seq - 1:
        logger.warning("stream_restarted", extra={"stream": stream, "next_seq": next_seq})
        return 1
    return next_seq


async def backed_off(wait_s: float) -> float:
    """Sleep about `wait_s` and return the next wait."""
    await asyncio.sleep(wait_s * (0.5 + random.random()))
    return min(wait_s * 2, _RETRY_MAX_S)
