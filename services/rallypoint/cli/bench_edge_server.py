"""The servers that `bench edge` compares: the same two methods on our web edge and on grpcio.

    python -m rallypoint.cli.bench_edge_server web|grpcio --hz 20 --bytes 201

Echo returns its message. Watch streams a message to every client `hz` times a second, all at once,
as the end of a room's tick does; it starts with the time it was made (`time.monotonic`, 8 bytes).
Prints the port as a line on standard output and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import uvloop
from google.protobuf.wrappers_pb2 import BytesValue

from rallypoint.gateway import calls, fanout
from rallypoint.gateway.web_server import Edge
from rallypoint.gateway.web_settings import EdgeSettings

SERVICE = "/rallypoint.bench.EchoService/"
LOOPBACK = "127.0.0.1"
_FIELD_BYTES = 3  # key and length of the field, above 127 bytes


def frame(size: int) -> bytes:
    """Return a serialized message of `size` bytes that tells when it was made."""
    made = struct.pack(">d", time.monotonic())
    return BytesValue(value=made.ljust(size - _FIELD_BYTES, b"\x5a")).SerializeToString()


async def tick(hz: float, send: Any, *, size: int) -> None:
    """Call `send(message)` at absolute times."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        at += 1 / hz
        await asyncio.sleep(at - loop.time())
        send(frame(size))


class Web:
    """Our web edge with the fan-out."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.fan_out = fanout.make("auto", fanout.FanOutLimits(), clock=loop.time)
        self.slots: list[int] = []
        self.methods = calls.Methods(
            [
                calls.UnaryMethod(SERVICE + "Echo", BytesValue, BytesValue, self.echo),
                calls.StreamMethod(SERVICE + "Watch", BytesValue, BytesValue, self.watch),
            ]
        )

    def echo(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Return the message."""
        return message

    async def watch(self, call: calls.Call, message: BytesValue, outlet: calls.Outlet) -> None:
        """Stay in the fan-out."""
        slot = outlet.slot
        self.slots.append(slot)
        try:
            await outlet.wait_closed()
        finally:
            self.slots.remove(slot)

    def send(self, message: bytes) -> None:
        """One tick."""
        self.fan_out.push(self.slots, [message] * len(self.slots))

    async def listen(self, tasks: asyncio.TaskGroup) -> int:
        """Serve."""
        edge = Edge(
            self.methods,
            settings=EdgeSettings(trusted_ranges=("127.0.0.0/8",)),
            fan_out=self.fan_out,
            tasks=tasks,
            guard=calls.open_door,
        )
        return await edge.listen(LOOPBACK, 0)


class Grpcio(grpc.GenericRpcHandler):
    """grpcio behind Envoy, written as its documentation shows."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[bytes]] = set()
        self._handlers: dict[str, Any] = {
            SERVICE + "Echo": grpc.unary_unary_rpc_method_handler(
                self.echo, BytesValue.FromString, BytesValue.SerializeToString
            ),
            SERVICE + "Watch": grpc.unary_stream_rpc_method_handler(
                self.watch, BytesValue.FromString
            ),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a path."""
        return self._handlers.get(handler_call_details.method)

    async def echo(self, message: BytesValue, context: Any) -> BytesValue:
        """Return the message."""
        return message

    async def watch(self, message: BytesValue, context: Any) -> AsyncIterator[bytes]:
        """Send what the ticks bring, serialized once for all."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(16)
        self.queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.queues.discard(queue)

    def send(self, message: bytes) -> None:
        """One tick."""
        for queue in self.queues:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(message)

    async def listen(self, tasks: asyncio.TaskGroup) -> int:
        """Serve."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self,))
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        tasks.create_task(server.wait_for_termination(), name="grpcio")
        return port


async def serve(kind: str, hz: float, *, size: int) -> None:
    """Serve until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = Web() if kind == "web" else Grpcio()
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            print(await server.listen(tasks), flush=True)
            ticks = tasks.create_task(tick(hz, server.send, size=size), name="ticks")
            await stopping.wait()
            ticks.cancel()
            raise asyncio.CancelledError


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["web", "grpcio"])
    parser.add_argument("--hz", type=float, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parsed = parser.parse_args()
    uvloop.run(serve(parsed.kind, parsed.hz, size=parsed.bytes))


if __name__ == "__main__":
    main()
