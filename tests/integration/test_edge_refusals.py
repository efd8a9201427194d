"""The web edge against requests that are wrong, too much, or never end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import request, wire

from rallypoint.gateway import fanout
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.static import StaticFiles
from rallypoint.kit import errors


@pytest.mark.parametrize(
    ("data", "http_status", "reason"),
    [
        pytest.param(request(origin="https://evil.test"), 403, "ORIGIN_DENIED", id="origin"),
        pytest.param(request(content_type="image/jpeg"), 415, "CONTENT_TYPE", id="content type"),
        pytest.param(
            request(content_type="application/grpc-web+foo"), 415, "CONTENT_TYPE", id="codec"
        ),
        pytest.param(request().replace(b"POST", b"DELETE", 1), 405, "VERB_UNSUPPORTED", id="verb"),
        pytest.param(
            request().replace(b"HTTP/1.1", b"HTTP/1.0", 1), 505, "HTTP_VERSION", id="version"
        ),
        pytest.param(request("Nothing"), 200, "METHOD_UNKNOWN", id="method"),
        pytest.param(request("Echo", bytes(1006)), 200, "MESSAGE_TOO_LARGE", id="oversized"),
        pytest.param(request(grpc_encoding="zstd"), 200, "ENCODING_UNSUPPORTED", id="encoding"),
        pytest.param(request(grpc_timeout="bogus"), 200, "TIMEOUT_MALFORMED", id="timeout"),
        pytest.param(request(x_big="a" * 20_000), 431, "HEADER_BYTES", id="large header"),
        pytest.param(
            request(**{f"x_{n}": "1" for n in range(80)}), 431, "HEADER_FIELDS", id="many headers"
        ),
        pytest.param(b"nonsense\r\n\r\n", 400, "HTTP_MALFORMED", id="no HTTP"),
        pytest.param(
            request(connection="Upgrade", upgrade="websocket"), 400, "UPGRADE_REFUSED", id="upgrade"
        ),
        pytest.param(b"GET /x HTTP/1.1\r\nhost: e\r\n\r\n", 404, "FILE_UNKNOWN", id="no file"),
    ],
)
def test_refused_request_has_a_reason_and_closes(
    runs: Runs, data: bytes, http_status: int, reason: str
) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(data)
            assert response.http_status == http_status
            assert response.error.reason == reason
            assert response.headers["connection"] == "close"
            assert await client.ends() == b""
            assert not running.service.calls

    runs(scenario())


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        pytest.param(b"", 12, "REQUEST_EMPTY", id="empty"),
        pytest.param(edge.body() * 2, 12, "REQUEST_MULTIPLE", id="two messages"),
        pytest.param(edge.body()[:-1], 3, "FRAME_MALFORMED", id="cut message"),
        pytest.param(grpcweb.frame(b"\xff\xff"), 3, "MESSAGE_MALFORMED", id="no protobuf"),
        pytest.param(grpcweb.frame(b"x", 1), 13, "COMPRESSION_UNDECLARED", id="compressed"),
    ],
)
def test_wrong_message_is_refused_and_the_connection_lives(
    runs: Runs, data: bytes, code: int, reason: str
) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            for method in ("Echo", "Count"):
                response = await client.call(request(method, data))
                assert (response.code, response.error.reason) == (code, reason)
            assert (await client.call(request())).messages == [b"hello"]

    runs(scenario())


def test_origin_is_refused_before_the_body(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            data = request(origin="https://evil.test", content_length="100000")
            response = await client.call(data[: data.index(b"\r\n\r\n") + 4])
            assert response.http_status == 403
            assert "access-control-allow-origin" not in response.headers

    runs(scenario())


def test_refusal_is_readable_by_the_allowed_origin(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            data = request(origin="https://play.test", content_type="text/plain")
            response = await client.call(data)
            assert response.headers["access-control-allow-origin"] == "https://play.test"

    runs(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request()[:30], id="in the head"),
        pytest.param(request()[:-3], id="in the body"),
    ],
)
def test_request_that_stalls_is_answered_and_cut(runs: Runs, sent: bytes) -> None:
    async def scenario() -> None:
        settings = edge.tuned(request_timeout_s=0.3)
        async with edge.web(settings) as running, wire(running) as client:
            assert (await client.call(request())).code == 0
            client.send(sent)
            response = await client.response()
            assert response.http_status == 408
            assert response.error.reason == "REQUEST_TIMEOUT"
            assert await client.ends() == b""

    runs(scenario())


def test_bytes_that_drip_do_not_buy_time(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(request_timeout_s=0.3)
        async with edge.web(settings) as running, wire(running) as client:
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(client.response(), name="answer")
                for byte in request()[:-1]:
                    if answer.done():
                        break
                    client.send(bytes([byte]))
                    await asyncio.sleep(0.02)
            assert answer.result().error.reason == "REQUEST_TIMEOUT"
            assert not running.service.calls

    runs(scenario())


def test_idle_connection_is_closed(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(idle_timeout_s=0.2)
        async with edge.web(settings) as running, wire(running) as client:
            await client.call(request())
            assert await client.ends() == b""
            await edge.until(lambda: running.edge.statistics().connections == 0)

    runs(scenario())


def test_half_closed_connection_is_one_that_left(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running:
            async with wire(running) as client:
                client.send(request())
                client.writer.write_eof()
                assert (await client.response()).messages == [b"hello"]
                assert await client.ends() == b""
            async with wire(running) as client:
                client.send(request()[:-2])
                client.writer.write_eof()
                assert await client.ends() == b""
            for method in ("Watch", "Slow"):
                async with wire(running) as client:
                    client.send(request(method, edge.body(b"4")))
                    await edge.until(lambda: running.service.open == 1)
                    client.writer.write_eof()
                    await edge.until(lambda: running.service.open == 0, within_s=2)

    runs(scenario())


def test_leaving_cancels_what_was_running(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running:
            for method in ("Watch", "Slow"):
                running.service.cancelled.clear()
                async with wire(running) as client:
                    client.send(request(method, edge.body(b"60")))
                    await edge.until(lambda: running.service.open == 1)
                    client.writer.transport.abort()
                await asyncio.wait_for(running.service.cancelled.wait(), 5)
                await edge.until(lambda: running.edge.statistics().connections == 0)

    runs(scenario())


def test_deadlines_end_calls_and_streams(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(unary_timeout_s=0.2, stream_timeout_cap_s=0.3)
        async with edge.web(settings) as running, wire(running) as client:
            late = errors.Code.DEADLINE_EXCEEDED
            assert (await client.call(request("Slow", edge.body(b"60")))).code == late
            asked = request("Slow", edge.body(b"60"), grpc_timeout="100m")
            assert (await client.call(asked)).code == late
            assert (await client.call(request("Watch", grpc_timeout="100m"))).code == late
            old = await client.call(request("Watch"))
            assert old.messages == [b"farewell"]
            assert old.error.reason == "STREAM_AGE"
            assert running.service.open == 0

    runs(scenario())


def test_answer_that_cannot_be_written_costs_one_connection(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as broken, wire(running) as other:
            broken.send(request("Break"))
            assert await broken.ends() == b""
            assert (await other.call(request())).messages == [b"hello"]

    runs(scenario())


def test_request_behind_a_stream_ends_it(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            client.send(request("Watch"))
            await edge.until(lambda: running.service.open == 1)
            response = await client.call(request())
            assert response.error.reason == "PIPELINE_LIMIT"
            await edge.until(lambda: running.service.open == 0)

    runs(scenario())


def test_pipelining_is_bounded(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            client.send(request("Slow", edge.body(b"0.05")) + request() * 40)
            answers = [await client.response() for _ in range(17)]
            assert answers[-1].error.reason == "PIPELINE_LIMIT"
            assert await client.ends() == b""
            assert len(running.service.calls) < 20

    runs(scenario())


def test_connections_per_address_are_limited(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(trusted_ranges=(), max_connections_per_ip=2)
        async with edge.web(settings) as running:
            async with wire(running) as one, wire(running) as two, wire(running) as three:
                assert (await one.call(request())).code == 0
                assert (await two.call(request())).code == 0
                refused = await three.response()
                assert refused.http_status == 429
                assert refused.error.reason == "CONNECTIONS_PER_ADDRESS"
                assert await three.ends() == b""
            await edge.until(lambda: running.edge.statistics().connections == 0)
            async with wire(running) as again:
                assert (await again.call(request())).code == 0

    runs(scenario())


def test_new_connections_per_address_are_limited(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(trusted_ranges=(), new_connections_per_ip_per_s=2.0)
        async with edge.web(settings) as running:
            reasons = []
            for _ in range(6):
                async with wire(running) as client:
                    response = await client.call(request())
                    reasons.append(response.error.reason if response.code else "OK")
            assert reasons == ["OK"] * 4 + ["CONNECTION_RATE"] * 2

    runs(scenario())


def test_reader_that_stops_is_skipped_then_cut(runs: Runs) -> None:
    async def scenario() -> None:
        limits = fanout.FanOutLimits(behind_bytes=64 * 1024, cut_after_s=0.3)
        async with edge.web(limits=limits) as running:
            with socket.create_connection((edge.HOST, running.port)) as stuck:
                stuck.sendall(request("Watch"))
                await edge.until(lambda: len(running.service.slots) == 1)
                seen: set[str] = set()
                message = edge.wrap(bytes(60_000))
                while "cut" not in seen:
                    problems = running.fan_out.push(running.service.slots, [message])
                    seen |= {problem for _, problem in problems}
                    await asyncio.sleep(0.01)
                assert seen == {"behind", "cut"}
                await edge.until(lambda: running.service.open == 0)

    runs(scenario())


def test_answers_that_are_not_read_are_bounded(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(500_000))

    async def scenario() -> None:
        async with edge.web(files=StaticFiles(tmp_path)) as running, wire(running) as client:
            for _ in range(8):
                client.send(b"GET /big.bin HTTP/1.1\r\nhost: e\r\n\r\n" * 4)
                await asyncio.sleep(0.01)
            assert running.edge.statistics().unsent_bytes < 600_000
            for _ in range(20):
                assert len((await client.response()).body) == 500_000

    runs(scenario())


def test_drain_says_farewell_and_finishes_calls(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as stream, wire(running) as slow:
            stream.send(request("Watch"))
            slow.send(request("Slow", edge.body(b"0.2")))
            async with wire(running) as idle:
                await idle.call(request())
                await edge.until(lambda: running.service.open == 2)
                await running.edge.drain(timeout_s=2)
                assert await idle.ends() == b""
            told = await stream.response()
            assert told.messages == [b"farewell"]
            assert told.error.reason == "DRAINING"
            assert (await slow.response()).messages == [b"0.2"]
            with pytest.raises(OSError, match=r".*"):
                await asyncio.open_connection(edge.HOST, running.port)

    runs(scenario())
