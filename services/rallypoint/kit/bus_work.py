"""Durable workers: facts for effects, acked after them, and dead letters for what cannot be done.

A fact is given up when a worker refuses it, when it has failed `max_deliveries` times, or when it
came more often than that without a word, since its worker died of it each time. It is then stored
on `dead.<stream>.<durable>` with the reason in its headers, and never delivered again. Only after
that is it ended on its own stream, so that a crash between the two costs a repetition, which the
message id removes for two minutes. Being away (Unavailable) is no failure: a worker holds what it
has and waits. Facts that come within a moment of each other are done together, since an effect is
mostly a round trip to somewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
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
_GATHER_S = 0.02
"""How long the first of a batch waits for others; nobody waits for a worker's effects."""
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

    async def hold(self, beside: Sequence[Delivery] = ()) -> None:
        """Keep it, those beside it and all that was pulled after it for another `ack_wait_s`."""
        held = [one._reply for one in (self, *beside)]
        for reply in (*held, *(message.reply for message in self._feed.waiting())):
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


Handle = Callable[[Sequence[Fact]], Awaitable[None]]
"""Does the effects of facts, all or none of them as far as it says."""


async def each(batches: AsyncIterator[Sequence[Delivery]], handle: Handle) -> None:
    """Have `handle` do the effects of facts, one batch after the other; runs for ever.

    A batch that fails is tried fact by fact. Raising InvalidArgument gives the fact up, Unavailable
    waits for what is away, anything else is tried again later, as often as the worker's limit says.
    """
    async for batch in batches:
        try:
            await _handled(batch, handle)
        except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
            logger.info("delivery_unanswered", extra={"reason": str(error)})  # it comes again


async def _handled(
    batch: Sequence[Delivery], handle: Handle, beside: Sequence[Delivery] = ()
) -> None:
    """Do a batch; those beside it wait for their turn."""
    while True:
        try:
            await handle([delivery.fact for delivery in batch])
        except errors.Unavailable as error:
            logger.info("worker_waits", extra={"reason": str(error)})
            with contextlib.suppress(bus_wire.BusUnavailable):
                await batch[0].hold((*batch[1:], *beside))
            await asyncio.sleep(_HOLD_S)
        except Exception as error:
            if len(batch) == 1:
                return await _refused(batch[0], error)
            for at, delivery in enumerate(batch):
                await _handled([delivery], handle, batch[at + 1 :])
            return None
        else:
            for delivery in batch:
                await delivery.ack()
            return None


async def _refused(delivery: Delivery, error: Exception) -> None:
    if isinstance(error, errors.InvalidArgument):
        return await delivery.give_up(str(error))
    logger.warning("delivery_failed", exc_info=error, extra={"seq": delivery.fact.seq})
    delay_s = min(2.0 ** (delivery.deliveries - 1), _RETRY_MAX_S)
    return await delivery.retry(delay_s, reason=f"{type(error).__name__}: {error}")


async def work(bus: Bus, job: Job) -> AsyncIterator[Sequence[Delivery]]:
    """See Bus.work."""
    # What a dead worker of ours held comes back after `ack_wait_s`. Taking it one by one until then
    # keeps what was pulled beside a fact that kills workers from sharing its fate.
    careful_until = time.monotonic() + 2 * job.ack_wait_s
    wait_s = bus_stream.RETRY_S
    metrics.BUS_DEAD_LETTERS.labels(job.stream, job.durable)  # from 0: an alert sees the first one
    async with Feed(bus) as feed:
        while True:
            try:
                if not await _make_consumer(bus, job):
                    careful_until = 0.0
                while True:
                    size = 1 if time.monotonic() < careful_until else _BATCH
                    async with contextlib.aclosing(_pulled(bus, job, feed, size)) as batches:
                        async for batch in batches:
                            if fine := [one for one in batch if not await _buried(one, job)]:
                                yield fine
                    wait_s = bus_stream.RETRY_S
            except bus_stream.Restart:
                wait_s = bus_stream.RETRY_S
            except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
                logger.info("worker_waits", extra={"stream": job.stream, "reason": str(error)})
            wait_s = await bus_stream.backed_off(wait_s)


async def _buried(delivery: Delivery, job: Job) -> bool:
    """Whether a fact came too often: then it is given up."""
    if delivery.deliveries <= job.max_deliveries:
        return False
    await delivery.bury()
    return True


async def _make_consumer(bus: Bus, job: Job) -> int:
    """Make the consumer, or find it; return how many facts some worker was given and holds."""
    config = bus_wire.worker_config(
        durable=job.durable, filter_subject=job.subject, ack_wait_s=job.ack_wait_s
    )
    made = await bus.api(
        f"CONSUMER.CREATE.{job.stream}.{job.durable}",
        {"stream_name": job.stream, "config": config},
    )
    return int(made["num_ack_pending"])


async def _pulled(
    bus: Bus, job: Job, feed: Feed, size: int
) -> AsyncGenerator[Sequence[Delivery], None]:
    """Pull so many, and yield them as they come; ends when the server says so."""
    body = json.dumps({"batch": size, "expires": int(_BATCH_EXPIRES_S * 1e9)}).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{job.stream}.{job.durable}"
    await bus.pull(subject, body, await feed.fresh_inbox())
    left = size
    while left:
        messages, is_over = await _together(feed, left)
        left -= len(messages)
        if messages:
            yield [_delivery(bus, job, feed, message) for message in messages]
        if is_over:
            return


async def _together(feed: Feed, most: int) -> tuple[list[Message], bool]:
    """What comes next, with what comes soon after it; also whether nothing more does.

    404, 408: nothing more now; 409: the consumer went, which the next pull sees.
    """
    messages = [await feed.receive(_BATCH_EXPIRES_S + bus_stream.SILENCE_S)]
    if most > 1:
        await asyncio.sleep(_GATHER_S)
    while len(messages) < most and feed.has_more() and not messages[-1].headers.get("Status"):
        messages.append(await feed.receive(0))
    if messages[-1].headers.get("Status"):
        return messages[:-1], True
    return messages, False


def _delivery(bus: Bus, job: Job, feed: Feed, message: Message) -> Delivery:
    position = bus_wire.parse_position(message.reply)
    fact = Fact(
        position.stream_seq, message.subject, message.data, message.headers, position.pending
    )
    return Delivery(fact, position.deliveries, bus, job, feed, message.reply)
