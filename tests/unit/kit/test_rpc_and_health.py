"""Internal gRPC and the health port, over loopback: errors, identity, readiness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rallypoint.kit import errors, health, rpc, telemetry
from rallypoint.kit.health import Health


class Host:
    """What make_server needs."""

    def __init__(self) -> None:
        self.health = Health("test")


Unary = Callable[[bytes, Any], Awaitable[bytes]]


async def _served(
    unary: Unary | None = None, stream: Callable[[bytes, Any], AsyncIterator[bytes]] | None = None
) -> tuple[grpc.aio.Server, grpc.aio.Channel, Host]:
    host = Host()
    server = rpc.make_server(host)
    handlers = {}
    if unary:
        handlers["Unary"] = grpc.unary_unary_rpc_method_handler(unary)
    if stream:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Test", handlers),))
    port = rpc.listen(server, "127.0.0.1", 0)
    await server.start()
    return server, rpc.channel(f"127.0.0.1:{port}", name="test"), host


async def _call(unary: Unary, metadata: Any = None) -> bytes:
    server, channel, _ = await _served(unary)
    try:
        async with rpc.calling():
            reply: bytes = await channel.unary_unary("/t.Test/Unary")(b"x", metadata=metadata)
        return reply
    finally:
        await channel.close()
        await server.stop(None)


def test_raised_error_reaches_the_caller_whole() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        raise errors.ResourceExhausted("FLEET_FULL", "full", retry_after_s=2.0)

    with pytest.raises(errors.ResourceExhausted) as raised:
        asyncio.run(_call(refuse))
    assert (raised.value.reason, raised.value.message, raised.value.retry_after_s) == (
        "FLEET_FULL", "full", 2.0,
    )  # fmt: skip


def test_unexpected_error_is_hidden_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise ValueError("secret")

    with pytest.raises(errors.Internal) as raised:
        asyncio.run(_call(fail))
    assert "secret" not in str(raised.value)
    assert "secret" in caplog.text


def test_stream_that_raises_delivers_what_came_before_and_the_error() -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        raise errors.NotFound("ROOM_UNKNOWN")

    async def scenario() -> None:
        server, channel, _ = await _served(stream=stream)
        got: list[bytes] = []
        with pytest.raises(errors.NotFound):
            await _collect(channel, got)
        assert got == [b"1"]
        await channel.close()
        await server.stop(None)

    asyncio.run(scenario())


async def _collect(channel: grpc.aio.Channel, got: list[bytes]) -> None:
    async with rpc.calling():
        async for reply in channel.unary_stream("/t.Test/Stream")(b"x"):
            got.append(reply)  # noqa: PERF401  # kept although the stream fails


def test_caller_is_read_from_the_metadata() -> None:
    async def who(request: bytes, context: Any) -> bytes:
        found = rpc.caller(context)
        return f"{found.player_id} {found.display_name}".encode()

    metadata = ((rpc.PLAYER_ID, "p1"), (rpc.DISPLAY_NAME, "Zoë".encode()))
    assert asyncio.run(_call(who, metadata)).decode() == "p1 Zoë"
    with pytest.raises(errors.Unauthenticated):
        asyncio.run(_call(who))


TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def test_trace_of_a_request_goes_through_two_services_without_an_endpoint() -> None:
    async def told(request: bytes, context: Any) -> bytes:
        return telemetry.trace_id().encode()

    async def scenario() -> None:
        inner, to_inner, _ = await _served(told)

        async def ask(request: bytes, context: Any) -> bytes:
            reply: bytes = await to_inner.unary_unary("/t.Test/Unary")(request)
            return reply

        outer, to_outer, _ = await _served(ask)
        call = to_outer.unary_unary("/t.Test/Unary")
        assert await call(b"x") == b""
        with telemetry.received({"traceparent": TRACE}):
            assert await call(b"x", metadata=(("other", "kept"),)) == b"ab" * 16
        assert await call(b"x") == b""
        for channel, server in ((to_outer, outer), (to_inner, inner)):
            await channel.close()
            await server.stop(None)

    asyncio.run(scenario())


def test_trace_of_a_request_goes_into_the_stream_it_opens() -> None:
    async def told(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield telemetry.trace_id().encode()

    async def scenario() -> None:
        server, channel, _ = await _served(stream=told)
        got: list[bytes] = []
        with telemetry.received({"traceparent": TRACE}):
            await _collect(channel, got)
        assert got == [b"ab" * 16]
        await channel.close()
        await server.stop(None)

    asyncio.run(scenario())


def test_unreachable_server_is_unavailable() -> None:
    async def scenario() -> None:
        async with rpc.channel("127.0.0.1:1", name="test") as channel, rpc.calling():
            await channel.unary_unary("/t.Test/Unary")(b"x")

    with pytest.raises(errors.Unavailable):
        asyncio.run(scenario())


def test_grpc_health_follows_readiness_by_service() -> None:
    async def scenario() -> None:
        server, channel, host = await _served()
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        host.health.set_ready(ready=True, service="t.Test")
        host.health.set_ready(ready=True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        reply = await stub.Check(health_pb2.HealthCheckRequest(service="t.Test"))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(errors.NotFound):
            async with rpc.calling():
                await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        watch.cancel()
        await channel.close()
        await server.stop(None)

    asyncio.run(scenario())


def test_health_port_answers_probes_metrics_and_status() -> None:
    async def scenario() -> None:
        source = Health("test")
        source.status(lambda: {"rooms": 3})
        server, port = await health.serve(source, "127.0.0.1", 0)
        assert (await _get(port, "/livez"))[0] == 200
        assert (await _get(port, "/readyz"))[0] == 503
        source.set_ready(ready=True)
        assert (await _get(port, "/readyz"))[0] == 200
        assert b"rallypoint_process_ready" in (await _get(port, "/metrics"))[1]
        assert await _get(port, "/statusz") == (
            200, b'{"service": "test", "ready": true, "rooms": 3}',
        )  # fmt: skip
        assert (await _get(port, "/other"))[0] == 404
        server.close()

    asyncio.run(scenario())


async def _get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body
