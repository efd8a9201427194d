"""Asks a studio's own webhook how many servers it wants (policies of type Webhook).

    POST <url>  {"set", "namespace", "policy", "replicas", "rooms", "claimed", "players", "unmet"}
    answer      {"servers": 12}

Whoever may write a set chooses the URL, so the operator's network policy must say where it may go.
Redirects are not followed, answers are small and quick or none: one that drips is hung up on.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

TIMEOUT_S = 3.0
ANSWER_MAX_BYTES = 4096
MOST = 50_000


class Refused(Exception):
    """No answer that could be used; the text says why."""


class Answer(msgspec.Struct, frozen=True):
    """What a webhook says."""

    servers: int


class _Call:
    """One question, asked by a thread that ends when it is hung up."""

    def __init__(self, url: str, body: bytes) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Refused(f"{url} is no web address")
            secure = parts.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        except (ValueError, http.client.InvalidURL) as error:
            raise Refused(f"{url}: {error}") from error
        self._target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._body = body
        self._over = threading.Event()

    def ask(self) -> bytes:
        """Return the answer's beginning; in a thread, as it blocks."""
        with contextlib.closing(self._connection) as connection:
            connection.connect()
            if self._over.is_set():
                raise Refused("nobody waits any more")
            headers = {"Content-Type": "application/json"}
            connection.request("POST", self._target, self._body, headers)
            answer = connection.getresponse()
            if answer.status // 100 != 2:
                raise Refused(f"it answers {answer.status} {answer.reason}")
            return answer.read(ANSWER_MAX_BYTES)

    def hang_up(self) -> None:
        """End it from outside, wherever it is: each read has a limit, but they may be many."""
        self._over.set()
        there = self._connection.sock
        if there is not None:
            with contextlib.suppress(OSError):
                there.shutdown(socket.SHUT_RDWR)


async def ask(url: str, question: Mapping[str, Any], *, within_s: float = 2 * TIMEOUT_S) -> int:
    """Return how many servers are wanted; Refused without a usable answer in time."""
    call = _Call(url, msgspec.json.encode(question))
    try:
        async with asyncio.timeout(within_s):
            text = await asyncio.to_thread(call.ask)
        servers = msgspec.json.decode(text, type=Answer).servers
    except TimeoutError as error:
        raise Refused(f"no whole answer in {within_s} s") from error
    except (OSError, ValueError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    finally:
        call.hang_up()
    if not 0 <= servers <= MOST:
        raise Refused(f"{servers} servers are out of bounds")
    return servers
