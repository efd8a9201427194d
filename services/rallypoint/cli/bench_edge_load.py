"""The load of `bench edge`: a browser's requests by many connections, one process.

    python -m rallypoint.cli.bench_edge_load unary|stream --port P --clients N --seconds S

unary: every client sends its next call when the last is answered. stream: every client opens Watch
and reads. After the warm-up it prints the line `begin`, after the measured seconds one JSON line
with the counts of those seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from dataclasses import dataclass, field

import httptools
import uvloop
from google.protobuf.wrappers_pb2 import BytesValue

from rallypoint.cli.bench_edge_server import LOOPBACK, SERVICE

_HEAD = (
    "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/grpc-web+proto\r\n"
    "x-grpc-web: 1\r\nuser-agent: rallypoint-bench\r\naccept: */*\r\n"
    "accept-encoding: gzip, deflate\r\norigin: http://{host}\r\nsec-fetch-mode: cors\r\n"
    "authorization: Bearer {token}\r\ncontent-length: {size}\r\n\r\n"
)
_TOKEN = "x" * 200  # an EdDSA JWT is about that long
_OFFSET = 5 + 3  # gRPC prefix, then key and length of the field: after them the time


def request(path: str, port: int, payload: bytes) -> bytes:
    """Return one request as a browser's fetch sends it."""
    message = BytesValue(value=payload).SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    host = f"{LOOPBACK}:{port}"
    head = _HEAD.format(path=SERVICE + path, host=host, token=_TOKEN, size=len(body))
    return head.encode() + body


@dataclass(slots=True)
class Count:
    """What happened since `begin`."""

    done: int = 0
    errors: int = 0
    bytes: int = 0
    delays_ms: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, data: bytes, count: Count, *, stream: bool, size: int) -> None:
        self._data = data
        self._count = count
        self._stream = stream
        self._size = size + 5
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class
        self._send()

    def _send(self) -> None:
        if self._transport is not None:
            self._sent_at = time.monotonic()
            self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Count the messages of a stream."""
        if not self._stream:
            return
        self._count.bytes += len(body)
        if len(body) >= self._size:
            made: float = struct.unpack_from(">d", body, _OFFSET)[0]
            self._count.delays_ms.append((time.monotonic() - made) * 1000)

    def on_message_complete(self) -> None:
        """Send the next call."""
        if self._stream or self._parser.get_status_code() != 200:
            self._count.errors += 1
            return
        self._count.done += 1
        self._count.delays_ms.append((time.monotonic() - self._sent_at) * 1000)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody closes during a run."""
        self._count.errors += 1


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of them lie."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2) if ordered else 0.0


async def load(parsed: argparse.Namespace) -> None:
    """Run one measurement."""
    stream = parsed.kind == "stream"
    data = request("Watch" if stream else "Echo", parsed.port, b"i" * 40)
    count = Count()
    loop = asyncio.get_running_loop()
    for number in range(parsed.clients):
        await loop.create_connection(
            lambda: Client(data, count, stream=stream, size=parsed.bytes), LOOPBACK, parsed.port
        )
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await asyncio.sleep(parsed.warm_up)
    count.done = count.errors = count.bytes = 0
    count.delays_ms.clear()
    print("begin", flush=True)
    began = time.monotonic()
    await asyncio.sleep(parsed.seconds)
    seconds = time.monotonic() - began
    done = count.bytes // (parsed.bytes + 5) if stream else count.done
    result = {
        "messages": done,
        "per_s": round(done / seconds, 1),
        "errors": count.errors,
        "delay_ms": {name: quantile(count.delays_ms, q) for name, q in _QUANTILES.items()},
    }
    print(json.dumps(result), flush=True)


_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["unary", "stream"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=1.0)
    uvloop.run(load(parser.parse_args()))


if __name__ == "__main__":
    main()
