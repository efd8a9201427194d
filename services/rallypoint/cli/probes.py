"""Ask a child whether it is ready, over the protocol it speaks; any trouble means "not yet"."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rallypoint.cli import plan

POLL_S = 0.02
ANSWER_S = 1.0


async def is_ready(process: plan.Process) -> bool:
    """One question to one process."""
    match process.probe:
        case "http":
            status, _ = await get(process.port, "/readyz", host=process.host)
            return status == 200
        case "nats":
            return (await _ask(process.host, process.port, b"", until=b"\n")).startswith(b"INFO ")
        case "redis":
            answer = await _ask(process.host, process.port, b"PING\r\n", until=b"\n")
            return answer == b"+PONG\r\n"
    return True


async def get(port: int, path: str, *, host: str = plan.LOCALHOST) -> tuple[int, bytes]:
    """GET: status and body; (0, b"") when there is no answer."""
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    answer = await _ask(host, port, request, until=None)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return 0, b""
    return int(words[1]), body


async def statusz(port: int, *, host: str = plan.LOCALHOST) -> dict[str, Any]:
    """What a service tells about itself; empty when it does not answer."""
    status, body = await get(port, "/statusz", host=host)
    try:
        document = json.loads(body) if status == 200 else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


async def _ask(host: str, port: int, request: bytes, *, until: bytes | None) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await (reader.readuntil(until) if until else reader.read(1 << 20))
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""
