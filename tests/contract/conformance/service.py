"""ConformanceService as the runner's documentation asks, on the gateway's own `Methods`.

Unary and ServerStream; the others are not ours to have. Every first answer echoes the request's
headers, its deadline and itself; errors carry that echo as a detail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from connectrpc.conformance.v1 import service_pb2 as pb
from google.rpc import status_pb2

from rallypoint.gateway import calls
from rallypoint.gateway.domain import grpcweb
from rallypoint.kit import errors

SERVICE = "/connectrpc.conformance.v1.ConformanceService/"


class AskedError(errors.RallypointError):
    """The error a test case wants, with any code and any details."""

    def __init__(self, asked: Any, info: Any | None) -> None:
        super().__init__("ASKED", asked.message)
        self.code = errors.Code(asked.code)  # type: ignore[misc]  # one class, all codes
        self.message = asked.message
        self.status = status_pb2.Status(code=asked.code, message=asked.message)
        self.status.details.extend(asked.details)
        if info is not None:
            self.status.details.add().Pack(info)


def details(error: errors.RallypointError) -> bytes:
    """Encode the error of a test case; ours go without details, since the runner expects none."""
    encoded: bytes = error.status.SerializeToString() if isinstance(error, AskedError) else b""
    return encoded


def methods(max_bytes: int) -> calls.Methods:
    """Return the registry; `max_bytes` is the limit that the runner names."""
    unary = calls.UnaryMethod(
        SERVICE + "Unary", pb.UnaryRequest, pb.UnaryResponse, _unary, max_bytes=max_bytes
    )
    stream = calls.StreamMethod(
        SERVICE + "ServerStream",
        pb.ServerStreamRequest,
        pb.ServerStreamResponse,
        _server_stream,
        max_bytes=max_bytes,
    )
    return calls.Methods([unary, stream])


def _echo(call: calls.Call, request: Any) -> Any:
    info = pb.ConformancePayload.RequestInfo()
    for name, value in call.metadata.items():
        info.request_headers.add(name=name, value=value.split(", "))
    if timeout := call.metadata.get("grpc-timeout"):
        info.timeout_ms = round(grpcweb.parse_timeout(timeout) * 1000)
    info.requests.add().Pack(request)
    return info


def _add(pairs: list[tuple[str, str]], headers: Any) -> None:
    for header in headers:
        pairs += [(header.name, value) for value in header.value]


def _unary(call: calls.Call, request: Any) -> Any:
    asked = request.response_definition
    _add(call.headers, asked.response_headers)
    _add(call.trailers, asked.response_trailers)
    return _later(asked, lambda: _reply(call, request, asked))


async def _later(asked: Any, reply: Callable[[], Any]) -> Any:
    await asyncio.sleep(asked.response_delay_ms / 1000)
    return reply()


def _reply(call: calls.Call, request: Any, asked: Any) -> Any:
    info = _echo(call, request)
    if asked.WhichOneof("response") == "error":
        raise AskedError(asked.error, info)
    return pb.UnaryResponse(
        payload=pb.ConformancePayload(data=asked.response_data, request_info=info)
    )


async def _server_stream(call: calls.Call, request: Any, outlet: calls.Outlet) -> None:
    asked = request.response_definition
    _add(call.headers, asked.response_headers)
    _add(call.trailers, asked.response_trailers)
    info: Any = _echo(call, request)
    for data in asked.response_data:
        await asyncio.sleep(asked.response_delay_ms / 1000)
        payload = pb.ConformancePayload(data=data, request_info=info)
        outlet.send(pb.ServerStreamResponse(payload=payload).SerializeToString())
        await outlet.wait_writable()
        info = None
    if asked.HasField("error"):
        raise AskedError(asked.error, info)
