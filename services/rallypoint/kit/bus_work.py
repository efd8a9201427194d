"""Durable workers: facts for effects, acked after them, and dead letters for what cannot be done.

A fact is given up when a worker refuses it, when it has failed `max_deliveries` times, or when it
came more often than that without a word, since its worker died of it each time. It is then stored
on `dead.<stream>.<durable>` with the reason in its headers, and never delivered again. Only after
that is it ended on its own stream, so that a crash between the two costs a repetition, which the
message id removes for two minutes. Being away (Unavailable) is no failure: a worker holds what it
has and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rallypoint.kit import bus_stream, bus_wire, errors, metrics, subjects
from rallypoint.kit.bus_stream import Fact, Feed

if TYPE_CHECKING:
    from rallypoint.kit.bus import Bus, Message

logger = logging.getLogger(__name__)

MAX_DELIVERIES = 5
NO_WORD = "delivered {} times without an answer"
_BATCH = 64
_BATCH_EXPIRES_S = 10.0
_HOLD_S = 1.0
_RETRY_MAX_S = 30.0
_UNBURIED_S = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a group of workers does; `ack_wait_s` is how long one may be silent about a fact."""

    stream: str
    subject: str
    durable: str
    ack_wait_s: float
    max_deliveries: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A fact given to a worker. `deliveries` counts this time too."""

    fact: Fact
    deliveries: int
    _bus: Bus
    _job: Job
    _feed: Feed
    _reply: str

    async def ack(self) -> None:
        """Say that the effect is done."""
        await self._bus.publish(self._reply, b"+ACK")

    async def retry(self, delay_s: float, *, reason: str = "asked to retry") -> None:
        """Have it delivered again after `delay_s` seconds; after too many times, give it up."""
        if self.deliveries >= self._job.max_deliveries:
            await self.give_up(reason)
        else:
            await self._later(delay_s)

    async def give_up(self, reason: str) -> None:
        """Move it to the dead letters, whose readers see `reason`.

        Raises BusUnavailable or ApiRefused when they cannot take it: then it comes again.
        """
        fact, job = self.fact, self._job
        buried_at = subjects.dead(job.stream, job.durable)
        position = bus_wire.parse_position(self._reply)
        headers = bus_wire.dead_headers(
            fact.headers,
            subject=fact.subject,
            position=position,
            msg_id=f"{buried_at}.{fact.seq}",
            reason=reason,
        )
        await self._bus.store(buried_at, fact.data, headers)
        metrics.BUS_DEAD_LETTERS.labels(job.stream, job.durable).inc()
        logger.error(
            "fact_given_up",
            extra={"subject": fact.subject, "seq": fact.seq, "reason": reason},
        )
        await self._bus.publish(self._reply, b"+TERM")

    async def hold(self) -> None:
        """Keep it, and all that was pulled after it, for another `ack_wait_s`."""
        for reply in (self._reply, *(message.reply for message in self._feed.waiting())):
            if reply:
                await self._bus.publish(reply, b"+WPI")

    async def _later(self, delay_s: float) -> None:
        body = json.dumps({"delay": int(delay_s * 1e9)})
        await self._bus.publish(self._reply, f"-NAK {body}".encode())

    async def bury(self) -> None:
        """Give up a fact that came too often; what cannot be stored now comes again later."""
        try:
            await self.give_up(NO_WORD.format(self.deliveries - 1))
        except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
            logger.warning("burial_waits", extra={"seq": self.fact.seq, "reason": str(error)})
            with contextlib.suppress(bus_wire.BusUnavailable):
                await self._later(_UNBURIED_S)


async def each(
    deliveries: AsyncIterator[Delivery], handle: Callable[[Fact], Awaitable[None]]
) -> None:
    """Have `handle` do the effect of each fact, one after the other; runs for ever.

    Raising InvalidArgument gives the fact up, Unavailable waits for what is away, anything else is
    tried again later, as often as the worker's limit says.
    """
    async for delivery in deliveries:
        try:
            await _handled(delivery, handle)
        except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
            logger.info("delivery_unanswered", extra={"reason": str(error)})  # it comes again


async def _handled(delivery: Delivery, handle: Callable[[Fact], Awaitable[None]]) -> None:
    while True:
        try:
            await handle(delivery.fact)
        except errors.Unavailable as error:
            logger.info("worker_waits", extra={"reason": str(error)})
            with contextlib.suppress(bus_wire.BusUnavailable):
                await delivery.hold()
            await asyncio.sleep(_HOLD_S)
        except errors.InvalidArgument as error:
            return await delivery.give_up(str(error))
        except Exception as error:
            logger.warning("delivery_failed", exc_info=True, extra={"seq": delivery.fact.seq})
            delay_s = min(2.0 ** (delivery.deliveries - 1), _RETRY_MAX_S)
            return await delivery.retry(delay_s, reason=f"{type(error).__name__}: {error}")
        else:
            return await delivery.ack()


async def work(bus: Bus, job: Job) -> AsyncIterator[Delivery]:
    """See Bus.work."""
    # What a dead worker of ours held comes back after `ack_wait_s`. Taking it one by one until then
    # keeps what was pulled beside a fact that kills workers from sharing its fate.
    careful_until = time.monotonic() + 2 * job.ack_wait_s
    wait_s = bus_stream.RETRY_S
    metrics.BUS_DEAD_LETTERS.labels(job.stream, job.durable)  # from 0: an alert sees the first one
    async with Feed(bus) as feed:
        while True:
            try:
                await _make_consumer(bus, job)
                while True:
                    size = 1 if time.monotonic() < careful_until else _BATCH
                    async with contextlib.aclosing(_batch(bus, job, feed, size)) as batch:
                        async for delivery in batch:
                            if delivery.deliveries > job.max_deliveries:
                                await delivery.bury()
                            else:
                                yield delivery
                    wait_s = bus_stream.RETRY_S
            except bus_stream.Restart:
                wait_s = bus_stream.RETRY_S
            except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
                logger.info("worker_waits", extra={"stream": job.stream, "reason": str(error)})
            wait_s = await bus_stream.backed_off(wait_s)


async def _make_consumer(bus: Bus, job: Job) -> None:
    config = bus_wire.worker_config(
        durable=job.durable, filter_subject=job.subject, ack_wait_s=job.ack_wait_s
    )
    await bus.api(
        f"CONSUMER.CREATE.{job.stream}.{job.durable}",
        {"stream_name": job.stream, "config": config},
    )


async def _batch(bus: Bus, job: Job, feed: Feed, size: int) -> AsyncGenerator[Delivery, None]:
    """Pull one batch; ends when the server says so."""
    body = json.dumps({"batch": size, "expires": int(_BATCH_EXPIRES_S * 1e9)}).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{job.stream}.{job.durable}"
    await bus.pull(subject, body, await feed.fresh_inbox())
    for _ in range(size):
        message = await feed.receive(_BATCH_EXPIRES_S + bus_stream.SILENCE_S)
        if message.headers.get("Status"):
            return  # 404, 408: nothing more now; 409: the consumer went, which the next pull sees
        yield _delivery(bus, job, feed, message)


def _delivery(bus: Bus, job: Job, feed: Feed, message: Message) -> Delivery:
    position = bus_wire.parse_position(message.reply)
    fact = Fact(
        position.stream_seq, message.subject, message.data, message.headers, position.pending
    )
    return Delivery(fact, position.deliveries, bus, job, feed, message.reply)
