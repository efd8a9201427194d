"""The web edge over real sockets: calls that are in order, in every mode."""

from __future__ import annotations

import asyncio
import base64
import gzip
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import request, wire

from rallypoint.gateway import calls
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.static import StaticFiles
from rallypoint.kit import errors

pytestmark = pytest.mark.usefixtures("each_backend")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_unary_call_is_answered_with_status_in_the_body(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(request())
            assert response.http_status == 200
            assert response.headers["content-type"] == "application/grpc-web+proto"
            assert "grpc-status" not in response.headers
            assert response.messages == [b"hello"]
            assert response.code == errors.Code.OK

    runs(scenario())


def test_one_connection_carries_many_calls_of_all_kinds(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            for round_number in range(3):
                value = b"%d" % round_number
                assert (await client.call(request("Echo", edge.body(value)))).messages == [value]
                assert (await client.call(request("Slow", edge.body(b"0.01")))).messages
                counted = await client.call(request("Count", edge.body(b"4")))
                assert counted.messages == [b"0", b"1", b"2", b"3"]
                assert (await client.call(request("Refuse"))).code == 8
            assert running.edge.statistics().connections == 1

    runs(scenario())


def test_pipelined_calls_are_answered_in_order(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            client.send(request("Slow", edge.body(b"0.05")) + request("Echo", edge.body(b"b")))
            await asyncio.sleep(0.01)
            client.send(request("Echo", edge.body(b"c")))
            values = [(await client.response()).messages[0] for _ in range(3)]
            assert values == [b"0.05", b"b", b"c"]

    runs(scenario())


def test_text_mode_speaks_base64_both_ways(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            text = {"content_type": "application/grpc-web-text"}
            data = base64.b64encode(edge.body())
            response = await client.call(request("Echo", data, **text))
            assert response.headers["content-type"] == "application/grpc-web-text+proto"
            response.body = base64.b64decode(response.body)
            assert response.messages == [b"hello"]
            data = base64.b64encode(edge.body(b"2")[:3]) + base64.b64encode(edge.body(b"2")[3:])
            client.send(request("Count", data, **text))
            await client.head()
            frames = b""
            while chunk := await client.chunk():
                frames += base64.b64decode(chunk)
            assert frames.startswith(
                grpcweb.frame(edge.wrap(b"0")) + grpcweb.frame(edge.wrap(b"1"))
            )

    runs(scenario())


def test_gzip_is_taken_and_bounded(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            data = grpcweb.frame(gzip.compress(edge.wrap(b"packed")), grpcweb.COMPRESSED)
            response = await client.call(request("Echo", data, grpc_encoding="gzip"))
            assert response.messages == [b"packed"]
            bomb = grpcweb.frame(gzip.compress(bytes(500_000)), grpcweb.COMPRESSED)
            response = await client.call(request("Echo", bomb, grpc_encoding="gzip"))
            assert response.code == errors.Code.RESOURCE_EXHAUSTED
            assert response.error.reason == "MESSAGE_TOO_LARGE"

    runs(scenario())


def test_error_has_reason_wait_and_quoted_message(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(request("Refuse"))
            assert response.code == errors.Code.RESOURCE_EXHAUSTED
            assert response.trailers["grpc-message"] == "100 %25 too often %E2%80%94 wait"
            assert response.error.reason == "TOO_OFTEN"
            assert response.error.retry_after_s == 2

    runs(scenario())


def test_bug_is_told_as_a_fixed_text_with_the_trace(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(request("Fail", traceparent=PARENT))
            assert response.code == errors.Code.INTERNAL
            assert b"secret" not in response.body
            assert response.error.metadata["trace_id"] == PARENT[3:35]

    runs(scenario())


def test_stream_that_fails_after_messages_ends_with_its_status(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(request("Count", edge.body(b"3")))
            assert response.messages == [b"0", b"1", b"2"]
            assert response.code == errors.Code.ABORTED
            assert (await client.call(request())).messages == [b"hello"]

    runs(scenario())


def test_large_stream_arrives_whole_through_back_pressure(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(request("Count", edge.body(b"20000")))
            assert len(response.messages) == 20_000
            assert response.code == errors.Code.OK

    runs(scenario())


def test_fan_out_reaches_every_stream_until_it_leaves(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as one:
            one.send(request("Watch"))
            async with wire(running) as two:
                two.send(request("Watch"))
                await edge.until(lambda: len(running.service.slots) == 2)
                message = edge.wrap(b"tick")
                assert running.fan_out.push(running.service.slots, [message] * 2) == []
                for client in (one, two):
                    await client.head()
                    assert await client.chunk() == grpcweb.frame(message)
            await running.service.cancelled.wait()
            problems = running.fan_out.push(running.service.slots, [message] * 2)
            assert [problem for _, problem in problems] == ["gone"]
            assert running.service.open == 1

    runs(scenario())


def test_allowed_origin_gets_cors_and_a_preflight(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            preflight = (
                f"OPTIONS {edge.SERVICE}Echo HTTP/1.1\r\nhost: e\r\norigin: https://play.test\r\n"
                "access-control-request-method: POST\r\n\r\n"
            )
            client.send(preflight.encode())
            head = (await client.head()).headers
            assert head["access-control-allow-origin"] == "https://play.test"
            assert "authorization" in head["access-control-allow-headers"]
            assert head["access-control-max-age"] == "7200"
            answer = (await client.call(request(origin="https://play.test"))).headers
            assert answer["access-control-allow-origin"] == "https://play.test"
            assert answer["vary"] == "origin"
            assert "grpc-status-details-bin" in answer["access-control-expose-headers"]
            assert "access-control-allow-origin" not in (await client.call(request())).headers

    runs(scenario())


def test_guard_sees_the_call_and_may_refuse(runs: Runs) -> None:
    def guard(call: calls.Call, method: calls.Method) -> None:
        if call.metadata.get("authorization") != "Bearer me":
            raise errors.Unauthenticated("TOKEN_MISSING")
        call.session = "me"

    async def scenario() -> None:
        async with edge.web(guard=guard) as running, wire(running) as client:
            refused = await client.call(request())
            assert refused.error.reason == "TOKEN_MISSING"
            assert (await client.call(request("Count"))).error.reason == "TOKEN_MISSING"
            assert (await client.call(request(authorization="Bearer me"))).code == 0
            assert [call.session for call in running.service.calls] == ["me"]
            assert running.service.calls[0].peer == "127.0.0.1"

    runs(scenario())


def test_proxy_names_the_client(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(proxies=("127.0.0.0/8",))
        async with edge.web(settings) as running, wire(running) as client:
            await client.call(request(x_forwarded_for="9.9.9.9, 198.51.100.7"))
        async with edge.web() as other, wire(other) as client:
            await client.call(request(x_forwarded_for="198.51.100.7"))
        assert running.service.calls[0].peer == "198.51.100.7"
        assert other.service.calls[0].peer == "127.0.0.1"

    runs(scenario())


def test_files_are_served_beside_the_calls(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>play</p>")

    async def scenario() -> None:
        async with edge.web(files=StaticFiles(tmp_path)) as running, wire(running) as client:
            page = await client.call(b"GET / HTTP/1.1\r\nhost: e\r\n\r\n")
            assert page.body == b"<p>play</p>"
            client.send(b"HEAD / HTTP/1.1\r\nhost: e\r\n\r\n")
            assert (await client.head()).headers["content-length"] == "11"
            assert (await client.call(request())).messages == [b"hello"]

    runs(scenario())
