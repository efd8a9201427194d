"""The server command that the runner starts: one ServerCompatRequest in, its answer out, serve.

Frames on stdin and stdout are `length:4be data`. gRPC-Web is served by the web edge, gRPC by the
native one, both with the limits of production but for the message size the runner names. Needs the
checkout and the compiled stubs on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import uvloop
from connectrpc.conformance.v1 import config_pb2, server_compat_pb2
from tests.contract.conformance import service

from rallypoint.gateway import calls, fanout
from rallypoint.gateway.native import NativeEdge
from rallypoint.gateway.web_server import Edge
from rallypoint.gateway.web_settings import EdgeSettings

LOOPBACK = "127.0.0.1"
DEFAULT_LIMIT_BYTES = 1024 * 1024


def read_request() -> Any:
    """Read what the runner wants."""
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    return server_compat_pb2.ServerCompatRequest.FromString(sys.stdin.buffer.read(size))


def write_response(port: int) -> None:
    """Tell where we listen."""
    data = server_compat_pb2.ServerCompatResponse(host=LOOPBACK, port=port).SerializeToString()
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()


async def main() -> None:
    """Serve until SIGTERM."""
    request = read_request()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        edge = make(request, tasks)
        write_response(await edge.listen(LOOPBACK, 0))
        await stopping.wait()
        await edge.drain(timeout_s=1)


def make(request: Any, tasks: asyncio.TaskGroup) -> Edge | NativeEdge:
    """Return the edge for the protocol."""
    loop = asyncio.get_running_loop()
    kind = NativeEdge if request.protocol == config_pb2.PROTOCOL_GRPC else Edge
    return kind(
        service.methods(request.message_receive_limit or DEFAULT_LIMIT_BYTES),
        settings=EdgeSettings(trusted_ranges=("127.0.0.0/8",)),
        fan_out=fanout.make("auto", fanout.FanOutLimits(), clock=loop.time),
        tasks=tasks,
        guard=calls.open_door,
        details=service.details,
    )


if __name__ == "__main__":
    uvloop.run(main())
