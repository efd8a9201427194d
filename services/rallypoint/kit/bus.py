"""NATS behind one port: core messages, facts on JetStream, ordered feeds, workers and KV buckets.

Facts are published with a message id (a retry is not stored twice) and are acked by the stream
before `publish_fact` returns. Feeds and watches survive reconnects: they are made anew from where
they stood (nats-py's own are blind for about 19 s after a server restart). Traps of nats-py that
this module answers: an error callback that raises kills its read loop, so ours cannot; a dead read
loop still says "connected", so `supervise` pings; KV updates drop the TTL, so `kit.bus_kv` writes
by itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from rallypoint.kit import (
    bus_acks,
    bus_kv,
    bus_stream,
    bus_wire,
    bus_work,
    cancellation,
    errors,
    metrics,
    security,
    subjects,
    telemetry,
)
from rallypoint.kit.bus_acks import Outgoing
from rallypoint.kit.bus_client import BusClient, TlsBusClient
from rallypoint.kit.bus_stream import Fact
from rallypoint.kit.bus_wire import ApiRefused, BusUnavailable, Conflict, Fence
from rallypoint.kit.bus_work import Delivery
from rallypoint.kit.security import Access

__all__ = [
    "ApiRefused", "Bus", "BusUnavailable", "Conflict", "Delivery", "Fact", "Fence", "Message",
    "Subscription",
]  # fmt: skip

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 5.0
BUSY_S = 0.005
BUSY_MAX_S = 0.1
PING_PERIOD_S = 5.0
PING_TIMEOUT_S = 2.0
PENDING_MESSAGES = 65_536
_SEEN_MAX = 4


@dataclass(frozen=True, slots=True)
class Message:
    """A message of core NATS."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    reply: str = ""


class Subscription:
    """A subscription of core NATS; survives reconnects."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def unsubscribe(self) -> None:
        """Stop receiving."""
        try:
            await self._inner.unsubscribe()
        except nats.errors.Error:
            logger.debug("unsubscribe_failed", exc_info=True)


class Bus:
    """A connection to NATS. Make one with `connect`, close it with `close`."""

    def __init__(self, client: BusClient, name: str) -> None:
        self._client = client
        self._name = name
        self._closing = False
        self._listeners: set[Callable[[], None]] = set()
        self._seen: list[str] = []
        self._acks = bus_acks.Acks(client, name)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection breaks; then another takes its place."""

    @classmethod
    async def connect(cls, url: str, *, name: str, access: Access = security.OPEN) -> Bus:
        """Return a connected bus; `url` may hold several, comma separated.

        Raises BusUnavailable when no server takes us within 2 s.
        """
        bus = cls(BusClient() if access.tls is None else TlsBusClient(), name)
        try:
            await cancellation.insist(bus._open(url, access), timeout_s=CONNECT_TIMEOUT_S)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await bus.close()
            why = ", ".join(bus._seen) or repr(error)
            raise BusUnavailable(f"NATS at {security.shown(url)}: {why}") from error
        metrics.BUS_CONNECTED.set(1)
        return bus

    async def _open(self, url: str, access: Access) -> None:
        await self._client.connect(
            servers=url.split(","),
            user=access.user or None,
            password=access.password or None,
            tls=access.tls.context() if access.tls is not None else None,
            name=self._name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            connect_timeout=1,
            reconnect_time_wait=0.1 + random.random() * 0.2,  # type: ignore[arg-type]  # seconds
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            inbox_prefix=f"_INBOX.{self._name}",
        )
        await self._acks.open()

    @property
    def is_connected(self) -> bool:
        """Whether messages leave this process now."""
        return self._client.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether the connection was given up for good."""
        return self._client.is_closed

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send on core NATS: at most once, to who listens now.

        Raises BusUnavailable while disconnected; nothing is buffered for later.
        """
        if not self._client.is_connected:
            raise BusUnavailable("NATS is disconnected")
        try:
            await self._client.publish(subject, data, headers=dict(headers) if headers else None)
        except nats.errors.Error as error:
            raise BusUnavailable(f"cannot publish {subject}: {error}") from error

    async def publish_fact(
        self, subject: str, data: bytes, *, msg_id: str, fence: Fence | None = None
    ) -> int:
        """Store a fact on the stream of its subject; return its sequence once acked.

        Safe to retry with the same `msg_id` for two minutes. Raises Conflict when the fence has
        moved, BusUnavailable when the ack did not come: then the fact may be stored or not.
        """
        kind = subject.split(".", 1)[0]
        with telemetry.span(
            f"send {kind}",
            kind="producer",
            attributes={"messaging.system": "nats", "messaging.message.id": msg_id},
        ):
            headers = telemetry.inject({bus_wire.MSG_ID: msg_id})
            if fence is not None:
                headers |= fence.headers()
            ack = await self.store(subject, data, headers)
        metrics.BUS_FACTS.labels(kind).inc()
        return ack

    async def publish_facts(
        self, facts: Sequence[tuple[str, bytes, str]]
    ) -> list[int | errors.RallypointError]:
        """`publish_fact` for many (subject, data, message id) at once, which nobody's trace is
        about; for each the sequence, or what `publish_fact` would raise."""
        stored = await self.store_all(
            [Outgoing(subject, data, {bus_wire.MSG_ID: msg_id}) for subject, data, msg_id in facts]
        )
        for (subject, _, _), answer in zip(facts, stored, strict=True):
            if isinstance(answer, int):
                metrics.BUS_FACTS.labels(subject.split(".", 1)[0]).inc()
        return stored

    async def store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int:
        """Publish to a stream with these headers; return the sequence the ack names."""
        (answer,) = await self.store_all([Outgoing(subject, data, headers)])
        if isinstance(answer, errors.RallypointError):
            raise answer
        return answer

    async def store_all(self, messages: Sequence[Outgoing]) -> list[int | errors.RallypointError]:
        """The same for many at once; for each the sequence, or what `store` would raise.

        In a cluster a message whose fence another message on its way has too is turned away, though
        the fence may stand: it is sent again until that one is stored.
        """
        answers = await self._sent(messages)
        give_up, wait_s = time.monotonic() + REQUEST_TIMEOUT_S, BUSY_S
        while busy := [n for n, found in enumerate(answers) if isinstance(found, bus_wire.Busy)]:
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BUSY_MAX_S)
            again = await self._sent([messages[n] for n in busy])
            for n, found in zip(busy, again, strict=True):
                answers[n] = found
        return answers

    async def _sent(self, messages: Sequence[Outgoing]) -> list[int | errors.RallypointError]:
        if not self._client.is_connected:
            return [BusUnavailable("NATS is disconnected") for _ in messages]
        try:
            acks = await self._acks.store(messages, timeout_s=REQUEST_TIMEOUT_S)
        except (nats.errors.Error, OSError) as error:
            acks = [error] * len(messages)
        return [_stored(message.subject, ack) for message, ack in zip(messages, acks, strict=True)]

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Message:
        """Send and wait for one answer; BusUnavailable when none comes."""
        if not self._client.is_connected:
            raise BusUnavailable("NATS is disconnected")
        try:
            asking = self._client.request(
                subject, data, timeout=timeout_s, headers=dict(headers) if headers else None
            )
            reply = await cancellation.insist(asking, timeout_s=timeout_s + 1, unless=self._lost)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"no answer on {subject}: {error!r}") from error
        return _message(reply)

    async def pull(self, subject: str, data: bytes, inbox: str) -> None:
        """Send a request whose answers come to `inbox`."""
        if not self._client.is_connected:
            raise BusUnavailable("NATS is disconnected")
        try:
            await self._client.publish(subject, data, reply=inbox)
        except nats.errors.Error as error:
            raise BusUnavailable(f"cannot publish {subject}: {error}") from error

    async def api(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call JetStream's API `$JS.API.<call>`; raises what `bus_wire.parse_reply` raises."""
        payload = json.dumps(body).encode() if body else b""
        return bus_wire.parse_reply((await self.request(f"$JS.API.{call}", payload)).data)

    async def subscribe(
        self,
        subject: str,
        callback: Callable[[Message], None],
        *,
        queue: str = "",
        pending_messages: int = PENDING_MESSAGES,
    ) -> Subscription:
        """Call `callback` for each message, in order, at once; it must be quick and not raise.

        When more than `pending_messages` wait, the newest are dropped and counted.
        """

        async def on_message(message: Msg) -> None:
            try:
                callback(_message(message))
            except Exception:
                logger.exception("callback_failed", extra={"subject": subject})

        try:
            inner = await self._client.subscribe(
                subject, queue=queue, cb=on_message, pending_msgs_limit=pending_messages
            )
        except nats.errors.Error as error:
            raise BusUnavailable(f"cannot subscribe {subject}: {error}") from error
        return Subscription(inner)

    def ordered(
        self, stream: str, subject: str, *, start_seq: int = 1, since_s: float | None = None
    ) -> AsyncGenerator[Fact, None]:
        """Return all facts of `subject` from stream sequence `start_seq` on, then new ones; with
        `since_s` from this unix time on.

        In order, without gaps or repeats, across reconnects; it never ends. After a stream was
        lost and made anew it starts again at 1.
        """
        return bus_stream.ordered(self, stream, subject, start_seq=start_seq, since_s=since_s)

    def stored(
        self, stream: str, subject: str, *, start_seq: int = 1
    ) -> AsyncGenerator[Fact, None]:
        """Return the facts of `subject` that are there now, in order; then it ends.

        Raises BusUnavailable when the stream is out of reach, ApiRefused when there is none.
        """
        return bus_stream.stored(self, stream, subject, start_seq=start_seq)

    def newest(self, stream: str, subject: str) -> AsyncGenerator[Fact, None]:
        """Return the last fact of each subject that fits, without its data, the oldest first.

        Raises as `stored`.
        """
        return bus_stream.newest(self, stream, subject)

    async def last(self, stream: str, subject: str) -> bytes | None:
        """Return the data of the last fact of a subject, None when there is none."""
        try:
            found = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except ApiRefused as error:
            if error.err_code == bus_wire.MESSAGE_MISSING:
                return None
            raise
        return base64.b64decode(found["message"].get("data", ""))

    def work(
        self,
        stream: str,
        subject: str,
        *,
        durable: str,
        ack_wait_s: float = 30.0,
        max_deliveries: int = bus_work.MAX_DELIVERIES,
    ) -> AsyncIterator[Sequence[Delivery]]:
        """Return facts of `subject` to this worker, one of those that share the name `durable`;
        those that come within a moment together.

        Ack after the effect; what is not acked within `ack_wait_s` comes again, here or elsewhere,
        until it has failed `max_deliveries` times: then it goes to the dead letters.
        `bus_work.each` does all of this around one handler.
        """
        job = bus_work.Job(stream, subject, durable, ack_wait_s, max_deliveries)
        return bus_work.work(self, job)

    def kv(self, bucket: str) -> bus_kv.Kv:
        """Return a bucket of kit.subjects."""
        return bus_kv.Kv(self, bucket)

    async def ensure_topology(self, *, replicas: int = 1) -> None:
        """Create or update every stream and bucket of kit.subjects."""
        configs = [bus_wire.stream_config(stream, replicas) for stream in subjects.STREAMS]
        configs += [bus_wire.bucket_config(bucket, replicas) for bucket in subjects.BUCKETS]
        await asyncio.gather(*(self._ensure_stream(config) for config in configs))

    async def _ensure_stream(self, config: dict[str, Any]) -> None:
        name = config["name"]
        try:
            await self.api(f"STREAM.CREATE.{name}", config)
        except ApiRefused as error:
            if error.err_code != bus_wire.NAME_IN_USE:
                raise
            await self.api(f"STREAM.UPDATE.{name}", config)

    def new_inbox(self) -> str:
        """Return a subject nobody else listens to."""
        return self._client.new_inbox()

    def on_reconnect(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each reconnect; return what removes it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def supervise(self) -> None:
        """Ping every 5 s and reconnect a connection that only looks alive.

        Raises BusUnavailable when the client has given up for good: the process should end.
        """
        while not self._closing:
            await asyncio.sleep(PING_PERIOD_S)
            if self._client.is_closed and not self._closing:
                raise BusUnavailable("the NATS client closed itself")
            await self._check_alive()

    async def _check_alive(self) -> None:
        client = self._client
        if client.is_connected:
            try:
                await client.rtt(PING_TIMEOUT_S)  # type: ignore[arg-type]  # seconds
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if client.is_connected:
                    logger.warning("bus_stale", extra={"error": repr(error)})
                    await client._process_op_err(nats.errors.StaleConnectionError())
        elif client.is_reconnecting:
            # A reconnect that died of an error leaves the client in limbo for ever.
            task = client._reconnection_task
            if task is not None and task.done():
                logger.warning("bus_reconnect_died")
                client._status = BusClient.CONNECTED
                await client._process_op_err(nats.errors.StaleConnectionError())

    async def close(self) -> None:
        """Flush and close; safe to call twice."""
        self._closing = True
        metrics.BUS_CONNECTED.set(0)
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                if self._client.is_connected:
                    await self._client.flush()
                await self._client.close()
        except (TimeoutError, nats.errors.Error, OSError):
            logger.debug("bus_close_failed", exc_info=True)

    async def _on_error(self, error: Exception) -> None:
        # Must not raise: nats-py awaits it inside its read loop.
        metrics.BUS_ERRORS.labels(type(error).__name__).inc()
        shown = repr(error)[:200]
        # All kinds, not the last: a server that refuses a login often just resets the next try.
        if shown not in self._seen and len(self._seen) < _SEEN_MAX:
            self._seen.append(shown)
        logger.info("bus_error", extra={"error": shown})

    async def _on_disconnected(self) -> None:
        metrics.BUS_CONNECTED.set(0)
        # Whoever waits for an answer waits for nothing: 5 s in which a match would stand still.
        self._acks.lost()
        lost, self._lost = self._lost, asyncio.get_running_loop().create_future()
        lost.set_result(None)
        if not self._closing:
            logger.warning("bus_disconnected")

    async def _on_reconnected(self) -> None:
        metrics.BUS_CONNECTED.set(1)
        metrics.BUS_RECONNECTS.inc()
        logger.warning("bus_reconnected")
        for listener in tuple(self._listeners):
            listener()


def _stored(subject: str, ack: bytes | Exception) -> int | errors.RallypointError:
    if isinstance(ack, Exception):
        unavailable = BusUnavailable(f"no ack of {subject}: {ack!r}")
        unavailable.__cause__ = ack
        return unavailable
    try:
        return bus_wire.parse_ack(ack)
    except errors.RallypointError as refused:
        return refused


def _message(message: Msg) -> Message:
    return Message(message.subject, message.data, message.headers or {}, message.reply)
