"""Asks a studio's own webhook how many servers it wants (policies of type Webhook).

    POST <url>  {"set", "namespace", "policy", "replicas", "rooms", "claimed", "players"}
    answer      {"servers": 12}

Whoever may write a set chooses the URL, so the operator's network policy must say where it may go.
Redirects are not followed, answers are small and quick or none.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
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


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Stay where we were sent."""


async def ask(url: str, question: Mapping[str, Any], *, within_s: float = 2 * TIMEOUT_S) -> int:
    """Return how many servers are wanted; Refused without a usable answer in time."""
    try:
        async with asyncio.timeout(within_s):  # the other one is for each read: they may be many
            return await asyncio.to_thread(_ask, url, msgspec.json.encode(question))
    except TimeoutError as error:
        raise Refused(f"no whole answer in {within_s} s") from error


def _ask(url: str, body: bytes) -> int:
    if not url.startswith(("http://", "https://")):
        raise Refused(f"{url} is no web address")
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(ANSWER_MAX_BYTES)
        servers = msgspec.json.decode(text, type=Answer).servers
    except (OSError, ValueError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    if not 0 <= servers <= MOST:
        raise Refused(f"{servers} servers are out of bounds")
    return servers
