"""Acks of what is stored on streams, by the number in the inbox each comes to.

One subscription takes all of them, straight from the connection, and messages that are stored
together leave as one piece. A request of nats-py makes a token, a waiter and a task for each;
with a snapshot per room and second that is most of what storing costs.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import nats.errors

from rallypoint.kit.bus_client import BusClient

WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f]+")
"""What may stand in a command between spaces, and in a header."""
_STATUS_AT = len("NATS/1.0 ")


class NoAnswer(Exception):
    """Nobody answered in time, or nobody listens."""


class Outgoing(NamedTuple):
    """A message to be stored."""

    subject: str
    data: bytes
    headers: Mapping[str, str]


class _Batch:
    """What was sent together; `done` once each has its answer or it is too late."""

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.answers: list[bytes | Exception] = [NoAnswer("no answer in time")] * size
        self.done = done
        self._left = size

    def answer(self, place: int, found: bytes | Exception) -> None:
        """One answer came."""
        self.answers[place] = found
        self._left -= 1
        if not self._left:
            self.finish()

    def finish(self) -> None:
        """No more is waited for."""
        if not self.done.done():
            self.done.set_result(None)


class Acks:
    """Sends messages and waits for their acks."""

    def __init__(self, client: BusClient, name: str) -> None:
        self._client = client
        self._inbox = f"_INBOX.{name}.acks.{secrets.token_hex(8)}"
        self._waiting: dict[bytes, tuple[_Batch, int]] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Subscribe; the subscription survives reconnects."""
        await self._client.take(f"{self._inbox}.*", self._on_ack)

    def lost(self) -> None:
        """The connection broke: no ack comes over it any more, whatever was stored."""
        for batch, _ in tuple(self._waiting.values()):
            batch.finish()

    async def store(
        self, messages: Sequence[Outgoing], *, timeout_s: float
    ) -> list[bytes | Exception]:
        """Publish and return the answer to each, or NoAnswer, or what the client would raise."""
        loop = asyncio.get_running_loop()
        batch = _Batch(len(messages), loop.create_future())
        numbers: list[bytes] = []
        commands: list[bytes] = []
        for place, message in enumerate(messages):
            number = b"%d" % next(self._numbers)
            try:
                commands.append(self._command(message, number))
            except nats.errors.Error as error:
                batch.answer(place, error)
                continue
            self._waiting[number] = batch, place
            numbers.append(number)
        timer = loop.call_later(timeout_s, batch.finish)
        try:
            if commands:
                async with asyncio.timeout(timeout_s):  # nats-py may keep it to itself
                    await self._client.send(b"".join(commands))
                await batch.done
        except TimeoutError:
            return batch.answers
        finally:
            timer.cancel()
            for number in numbers:
                del self._waiting[number]
        return batch.answers

    def _command(self, message: Outgoing, number: bytes) -> bytes:
        """The protocol's HPUB."""
        head = _head(tuple(message.headers.items()))
        if not WORD.fullmatch(message.subject):
            raise nats.errors.BadSubjectError
        reply = f"{self._inbox}.{number.decode()}"
        size = len(head) + len(message.data)
        if size > self._client.max_payload:  # the server would hang up
            raise nats.errors.MaxPayloadError
        line = f"HPUB {message.subject} {reply} {len(head)} {size}\r\n".encode()
        return b"%b%b%b\r\n" % (line, head, message.data)

    def _on_ack(self, subject: bytes, data: bytes, headers: bytes | None) -> None:
        found = self._waiting.get(subject.rpartition(b".")[2])
        if found is None:
            return
        batch, place = found
        if not data and headers:  # NATS/1.0 503, since nobody listens
            status = headers[_STATUS_AT : _STATUS_AT + 3].decode(errors="replace")
            batch.answer(place, NoAnswer(f"status {status}"))
        else:
            batch.answer(place, data)


@functools.lru_cache(maxsize=1024)  # those of a room's snapshots come again and again
def _head(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Headers as the protocol has them; raises BadHeaderError."""
    lines = ["NATS/1.0"]
    for name, value in headers:
        if not WORD.fullmatch(name) or "\r" in value or "\n" in value:
            raise nats.errors.BadHeaderError(name)
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
