"""Health and metrics over HTTP: GET /livez, /readyz, /metrics, /statusz on the metrics port.

Readiness is per gRPC service name; "" is the process as a whole. A process is live while its loop
answers. `/statusz` is JSON made by the callables registered with `status`. One request per
connection: these are for probes, scrapers and `rallypoint up`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from rallypoint.kit import metrics

logger = logging.getLogger(__name__)

_MAX_HEAD_BYTES = 8192
_READ_TIMEOUT_S = 5.0


class Health:
    """What this process says about itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._ready: dict[str, bool] = {"": False}
        self._status: list[Callable[[], dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def set_ready(self, ready: bool, service: str = "") -> None:  # noqa: FBT001  # reads well
        """Say whether the process, or one gRPC service of it, takes work."""
        self._ready[service] = ready
        if service == "":
            metrics.PROCESS_READY.labels(self.name).set(ready)
        self._changed.set()
        self._changed = asyncio.Event()

    def is_ready(self, service: str = "") -> bool | None:
        """Return the readiness of a service; None when it is not known."""
        return self._ready.get(service)

    @property
    def changed(self) -> asyncio.Event:
        """The event that the next call of set_ready sets: take it, look, then wait for it."""
        return self._changed

    async def wait_changed(self) -> None:
        """Return after the next call of set_ready."""
        await self._changed.wait()

    def status(self, source: Callable[[], dict[str, Any]]) -> None:
        """Add the fields that `source` returns to /statusz. It must be quick and must not raise."""
        self._status.append(source)

    def statistics(self) -> dict[str, Any]:
        """Return what /statusz shows."""
        shown: dict[str, Any] = {"service": self.name, "ready": self._ready[""]}
        for source in self._status:
            shown.update(source())
        return shown


async def serve(health: Health, host: str, port: int) -> tuple[asyncio.Server, int]:
    """Start answering; return the server and its port (`port` 0: any free one)."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(health, reader, writer)

    server = await asyncio.start_server(on_connection, host, port, limit=_MAX_HEAD_BYTES)
    bound: int = server.sockets[0].getsockname()[1]
    return server, bound


async def _answer(
    health: Health, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.write(_response(health, head))
        await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # a probe that went away or talks nonsense: nothing to say to it
    finally:
        writer.close()


def _response(health: Health, head: bytes) -> bytes:
    method, _, rest = head.decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method not in ("GET", "HEAD"):
        return _http(405, b"only GET\n")
    match path:
        case "/livez":
            return _http(200, b"ok\n")
        case "/readyz":
            ready = health.is_ready()
            return _http(200 if ready else 503, b"ready\n" if ready else b"not ready\n")
        case "/metrics":
            from prometheus_client import generate_latest

            return _http(200, generate_latest(), "text/plain; version=0.0.4; charset=utf-8")
        case "/statusz":
            body = json.dumps(health.statistics()).encode()
            return _http(200, body, "application/json")
    return _http(404, b"not found\n")


_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _http(status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
