"""Asks a studio's own webhook how many servers it wants (policies of type Webhook).

    POST <url>  {"set", "namespace", "policy", "replicas", "rooms", "claimed", "players", "unmet"}
    answer      {"servers": 12}

Whoever may write a set chooses the URL, so the operator's network policy must say where it may go.
Redirects are not followed; answers are small and whole within three seconds, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

TIMEOUT_S = 3.0
ANSWER_MAX_BYTES = 4096
MOST = 50_000
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class Refused(Exception):
    """No answer that could be used; the text says why."""


class Answer(msgspec.Struct, frozen=True):
    """What a webhook says."""

    servers: int


async def ask(url: str, question: Mapping[str, Any], *, within_s: float = TIMEOUT_S) -> int:
    """Return how many servers are wanted; Refused without a usable answer in time."""
    try:
        async with asyncio.timeout(within_s):
            text = await _answer(url, msgspec.json.encode(question))
        servers = msgspec.json.decode(text, type=Answer).servers
    except TimeoutError as error:
        raise Refused(f"no whole answer in {within_s} s") from error
    except (OSError, ValueError, aiohttp.ClientError, msgspec.MsgspecError) as error:
        raise Refused(f"{url}: {type(error).__name__}: {error}") from error
    if not 0 <= servers <= MOST:
        raise Refused(f"{servers} servers are out of bounds")
    return servers


async def _answer(url: str, body: bytes) -> bytes:
    whole = aiohttp.ClientTimeout(total=None)  # the caller's
    async with (
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=whole, auto_decompress=False
        ) as session,
        session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as answer,
    ):
        if answer.status // 100 != 2:
            raise Refused(f"it answers {answer.status} {answer.reason}")
        text = b""
        async for part in answer.content.iter_any():
            text += part
            if len(text) > ANSWER_MAX_BYTES:
                raise Refused(f"its answer is longer than {ANSWER_MAX_BYTES} bytes")
        return text
