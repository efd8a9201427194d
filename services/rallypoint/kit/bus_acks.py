"""Acks of what is stored on streams, by the number in the inbox each comes to.

One subscription takes all of them. A request of nats-py makes a token, a waiter and a task for each
besides; with a snapshot per room and second that is most of what storing costs.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

STATUS = "Status"


class NoAnswer(Exception):
    """Nobody answered in time, or nobody listens."""


class Acks:
    """Sends messages and waits for their acks."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._inbox = f"_INBOX.{name}.acks.{secrets.token_hex(8)}"
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Subscribe; the subscription survives reconnects."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_ack)

    async def store(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> bytes:
        """Publish and return the answer; NoAnswer, or what the client raises."""
        loop = asyncio.get_running_loop()
        number = str(next(self._numbers))
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[number] = answer
        timer = loop.call_later(timeout_s, _give_up, answer)
        try:
            await self._client.publish(
                subject, data, reply=f"{self._inbox}.{number}", headers=dict(headers) or None
            )
            return await answer
        finally:
            timer.cancel()
            del self._waiting[number]

    async def _on_ack(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        headers: Mapping[str, Any] = message.headers or {}
        if not message.data and STATUS in headers:
            answer.set_exception(NoAnswer(f"status {headers[STATUS]}"))
        else:
            answer.set_result(message.data)


def _give_up(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(NoAnswer("no answer in time"))
