"""The native edge: the same methods over HTTP/2, with grpcio's client and with bytes of our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from prometheus_client import REGISTRY
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import until
from tests.support.http2 import PREFACE, SETTINGS, Http2, frame

from rallypoint.gateway import calls
from rallypoint.gateway.domain import grpcweb
from rallypoint.kit import errors, inet_diag, rpc
from rallypoint.kit.health import Health

PATH = edge.SERVICE
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SEEN = "rallypoint_gateway_native_connections_count"
HELLO = PREFACE + frame(SETTINGS, 0, 0)


@asynccontextmanager
async def channel(running: edge.Running) -> AsyncIterator[grpc.aio.Channel]:
    own = [("grpc.use_local_subchannel_pool", 1)]  # channels to one address share a connection
    async with grpc.aio.insecure_channel(f"{edge.HOST}:{running.port}", options=own) as opened:
        yield opened


def unary(opened: grpc.aio.Channel, method: str = "Echo") -> Any:
    return opened.unary_unary(PATH + method, BytesValue.SerializeToString, BytesValue.FromString)


def stream(opened: grpc.aio.Channel, method: str) -> Any:
    return opened.unary_stream(PATH + method, BytesValue.SerializeToString, BytesValue.FromString)


async def failure(call: Any) -> errors.RallypointError:
    """Return what a unary call fails with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return rpc.to_error(error)
    raise AssertionError("it did not fail")


def test_unary_calls_answer_wait_and_fail(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.native() as running, channel(running) as opened:
            assert (await unary(opened)(BytesValue(value=b"a"))).value == b"a"
            assert (await unary(opened, "Slow")(BytesValue(value=b"0.01"))).value == b"0.01"
            refused = await failure(unary(opened, "Refuse")(BytesValue()))
            assert (refused.reason, refused.retry_after_s) == ("TOO_OFTEN", 2)
            bug = await failure(unary(opened, "Fail")(BytesValue()))
            assert bug.code == errors.Code.INTERNAL
            assert "secret" not in bug.message
            unknown = await failure(unary(opened, "Nothing")(BytesValue()))
            assert unknown.code == errors.Code.UNIMPLEMENTED
            large = await failure(unary(opened)(BytesValue(value=bytes(2000))))
            assert large.reason == "MESSAGE_TOO_LARGE"

    runs(scenario())


def test_stream_brings_its_messages_and_its_status(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.native() as running, channel(running) as opened:
            even = stream(opened, "Count")(BytesValue(value=b"2000"))
            assert [int(message.value) async for message in even] == list(range(2000))
            odd = stream(opened, "Count")(BytesValue(value=b"3"))
            seen: list[bytes] = []
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                seen.extend([message.value async for message in odd])
            assert rpc.to_error(caught.value).reason == "ODD"

    runs(scenario())


def test_fan_out_reaches_native_streams_until_they_leave(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.native() as running, channel(running) as opened:
            watching = stream(opened, "Watch")(BytesValue())
            await edge.until(lambda: len(running.service.slots) == 1)
            assert running.fan_out.push(running.service.slots, [edge.wrap(b"tick")]) == []
            assert (await watching.read()).value == b"tick"
            watching.cancel()
            await asyncio.wait_for(running.service.cancelled.wait(), 5)
            assert running.fan_out.statistics().clients == 0

    runs(scenario())


def test_native_deadlines_and_age_end_calls(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(unary_timeout_s=0.2, stream_timeout_cap_s=0.3)
        async with edge.native(settings) as running, channel(running) as opened:
            late = await failure(unary(opened, "Slow")(BytesValue(value=b"60")))
            assert late.code == errors.Code.DEADLINE_EXCEEDED
            old = stream(opened, "Watch")(BytesValue())
            assert (await old.read()).value == b"farewell"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await old.read()
            assert rpc.to_error(caught.value).reason == "STREAM_AGE"

    runs(scenario())


@pytest.mark.parametrize("name", ["Echo", "Watch"])
@pytest.mark.parametrize("said", [(), (BytesValue(),)], ids=["no message", "no end"])
def test_request_that_never_ends_is_held_no_longer_than_on_the_web(
    runs: Runs, name: str, said: tuple[BytesValue, ...]
) -> None:
    async def scenario() -> None:
        settings = edge.tuned(request_timeout_s=0.2)
        async with edge.native(settings) as running, channel(running) as opened:
            call: Any = opened.stream_stream(PATH + name, BytesValue.SerializeToString)()
            for message in said:
                await call.write(message)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(call.read(), 4)
            assert rpc.to_error(caught.value).reason == "REQUEST_TIMEOUT"

    runs(scenario())


def test_native_drain_says_farewell(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.native() as running, channel(running) as opened:
            watching = stream(opened, "Watch")(BytesValue())
            await edge.until(lambda: running.service.open == 1)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(running.edge.drain(timeout_s=2), name="drain")
                assert (await watching.read()).value == b"farewell"
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await watching.read()
            assert rpc.to_error(caught.value).reason == "DRAINING"

    runs(scenario())


def test_native_guard_sees_metadata_and_peer(runs: Runs) -> None:
    def guard(call: calls.Call, method: calls.Method) -> None:
        if call.metadata.get("authorization") != "Bearer me":
            raise errors.Unauthenticated("TOKEN_MISSING")

    async def scenario() -> None:
        async with edge.native(guard=guard) as running, channel(running) as opened:
            assert (await failure(unary(opened)(BytesValue()))).reason == "TOKEN_MISSING"
            metadata = (("authorization", "Bearer me"), ("name-bin", b"\xff\0"))
            await unary(opened)(BytesValue(), metadata=metadata)
            assert running.service.calls[0].peer == "127.0.0.1"
            assert running.service.calls[0].metadata["name-bin"] == "/wA"

    runs(scenario())


def test_health_is_served_and_reflection_only_when_asked(runs: Runs) -> None:
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    async def reflected(opened: grpc.aio.Channel) -> list[str]:
        ask = opened.stream_stream(
            REFLECTION,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        return [
            service.name
            async for answer in answers
            for service in answer.list_services_response.service
        ]

    async def scenario() -> None:
        health = Health("gateway")
        health.set_ready(True)
        served = edge.native(health=health, reflection=True)
        async with served as running, channel(running) as opened:
            check = opened.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            unknown = await failure(check(health_pb2.HealthCheckRequest(service="other")))
            assert (unknown.code, unknown.reason) == (errors.Code.NOT_FOUND, "SERVICE_UNKNOWN")
            raw = opened.unary_unary("/grpc.health.v1.Health/Check")
            assert (await failure(raw(b"\xff"))).reason == "MESSAGE_MALFORMED"
            assert "rallypoint.test.EchoService" in await reflected(opened)
        async with edge.native() as running, channel(running) as opened:
            # Not as a stream: the client may still be writing when it is told, and say INTERNAL.
            asked = opened.unary_unary(REFLECTION)
            assert (await failure(asked(b""))).code == errors.Code.UNIMPLEMENTED

    runs(scenario())


@asynccontextmanager
async def idlers(
    running: edge.Running, count: int, *, host: str = edge.HOST, hello: bytes = HELLO
) -> AsyncIterator[list[asyncio.Task[bytes]]]:
    """Connections from an address that do nothing after a word; each task ends with its own."""
    wires = []
    for _ in range(count):
        wires.append(
            edge.Wire(*await asyncio.open_connection(edge.HOST, running.port, local_addr=(host, 0)))
        )
        wires[-1].send(hello)
    ends = [asyncio.create_task(wire.ends()) for wire in wires]
    try:
        yield ends
    finally:
        for wire in wires:
            wire.writer.close()
        await asyncio.gather(*ends, return_exceptions=True)


def left(ends: list[asyncio.Task[bytes]]) -> list[int]:
    """Which connections are still there."""
    return [number for number, end in enumerate(ends) if not end.done()]


def test_address_has_so_many_connections_and_the_next_are_cut(runs: Runs) -> None:
    settings = edge.tuned(trusted_ranges=(), max_connections_per_ip=3)
    try:
        inet_diag.at_port(1)
    except OSError as problem:
        pytest.skip(f"the kernel tells nothing of connections here: {problem}")

    async def scenario() -> None:
        async with edge.native(settings) as running, channel(running) as opened:
            await unary(opened)(BytesValue())
            async with idlers(running, 300, host="127.0.0.2") as many:
                await until(lambda: len(left(many)) == 3)
                await unary(opened)(BytesValue())
            async with idlers(running, 2) as few, channel(running) as fourth:
                await until(lambda: REGISTRY.get_sample_value(SEEN) == 3)
                await until(lambda: refusal(fourth))
                assert not [end for end in few if end.done()]
                await unary(opened)(BytesValue())

    async def refusal(opened: grpc.aio.Channel) -> bool:
        try:
            await unary(opened)(BytesValue())
        except grpc.aio.AioRpcError as error:
            refused = rpc.to_error(error)
            assert (refused.reason, refused.retry_after_s) == ("CONNECTIONS_PER_ADDRESS", 1)
            return True
        return False

    runs(scenario())


def test_connections_are_bounded_in_all_and_in_how_long_they_do_nothing(runs: Runs) -> None:
    settings = edge.tuned(max_connections=5, request_timeout_s=0.4, idle_timeout_s=1.0)

    async def scenario() -> None:
        async with edge.native(settings) as running, channel(running) as opened:
            await unary(opened)(BytesValue())
            watch = stream(opened, "Watch")(BytesValue())
            await until(lambda: running.service.open)
            async with idlers(running, 10, hello=b"") as silent:
                await until(lambda: len(left(silent)) == 4)
                await until(lambda: not left(silent))
            async with idlers(running, 2) as idle:
                await until(lambda: not left(idle))
            assert not watch.done()
            watch.cancel()

    runs(scenario())


def test_health_is_watched_by_so_many_streams_of_a_connection(runs: Runs) -> None:
    from grpc_health.v1 import health_pb2

    states = health_pb2.HealthCheckResponse

    async def scenario() -> None:
        health = Health("gateway")
        async with edge.native(health=health) as running, channel(running) as opened:
            watch = opened.unary_stream(
                "/grpc.health.v1.Health/Watch",
                health_pb2.HealthCheckRequest.SerializeToString,
                states.FromString,
            )
            first, *others = [watch(health_pb2.HealthCheckRequest()) for _ in range(4)]
            for stream in (first, *others):
                assert (await stream.read()).status == states.NOT_SERVING
            fifth = watch(health_pb2.HealthCheckRequest())
            assert (await failure(fifth.read())).reason == "WATCHES_EXCEEDED"
            health.set_ready(True)
            assert (await first.read()).status == states.SERVING
            first.cancel()

            async def another() -> bool:
                stream = watch(health_pb2.HealthCheckRequest())
                with contextlib.suppress(grpc.aio.AioRpcError):
                    return (await stream.read()).status == states.SERVING
                return False

            await until(another)

    runs(scenario())


def test_call_without_a_message_is_refused_at_once(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.native() as running:
            reader, writer = await asyncio.open_connection(edge.HOST, running.port)
            http2 = Http2(reader, writer)
            await http2.open()
            http2.send(1, PATH + "Echo", "x-any", "1", b"")
            assert b"no message" in await http2.end(1)
            assert not running.service.calls
            writer.close()

    runs(scenario())


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [("grpc-timeout", "bogus", "4S"), ("grpc-encoding", "foo", "identity")],
)
def test_hpack_poisoning_hurts_nobody_else(runs: Runs, name: str, bad: str, good: str) -> None:
    """One unreadable header must not fail later calls of the same HTTP/2 connection.

    grpc-core would keep the failed header in its HPACK table; behind a proxy the next call on the
    connection is somebody else's (design notes, edge §5b).
    """

    async def scenario() -> None:
        async with edge.native() as running:
            reader, writer = await asyncio.open_connection(edge.HOST, running.port)
            http2 = Http2(reader, writer)
            await http2.open()
            body = grpcweb.frame(edge.wrap(b"a"))
            http2.send(1, PATH + "Echo", name, bad, body)
            await http2.end(1)
            http2.send(3, PATH + "Echo", name, good, body)
            assert b"Error parsing" not in await http2.end(3)
            assert len(running.service.calls) == 1
            writer.close()

    runs(scenario())
