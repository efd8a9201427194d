"""Calls over one WebSocket, over real sockets: those in order, and those refused."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from tests.integration.conftest import Runs
from tests.support import edge
from tests.support.edge import SERVICE, Wire, until, wire, wrap
from tests.support.websocket import (
    MASK,
    Watched,
    channel,
    closed_with,
    handshake,
    message,
    raw,
    read_frame,
)

from rallypoint.client import grpcweb, websocket_frames
from rallypoint.gateway import calls
from rallypoint.kit import errors

pytestmark = pytest.mark.usefixtures("each_backend")


# --- what is in order ---


def test_calls_of_all_kinds_share_one_connection(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            for value in (b"a", b"b" * 900):
                reply = await client.unary(SERVICE + "Echo", wrap(value))
                assert BytesValue.FromString(reply).value == value
            slow = asyncio.create_task(client.unary(SERVICE + "Slow", wrap(b"0.05")))
            watched = Watched()
            await client.stream(SERVICE + "Count", wrap(b"4"), listener=watched)
            await until(lambda: watched.ends)
            assert (watched.values, watched.ends) == ([b"0", b"1", b"2", b"3"], [None])
            assert not slow.done()
            assert BytesValue.FromString(await slow).value == b"0.05"
            assert running.edge.statistics().connections == 1

    runs(scenario())


def test_errors_come_with_their_details(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            with pytest.raises(errors.ResourceExhausted) as refused:
                await client.unary(SERVICE + "Refuse", b"")
            assert refused.value.reason == "TOO_OFTEN"
            assert refused.value.retry_after_s == 2
            with pytest.raises(errors.Internal):
                await client.unary(SERVICE + "Fail", b"")
            with pytest.raises(errors.Unimplemented) as unknown:
                await client.unary(SERVICE + "Nothing", b"")
            assert unknown.value.reason == "METHOD_UNKNOWN"
            with pytest.raises(errors.ResourceExhausted) as large:
                await client.unary(SERVICE + "Echo", wrap(b"x" * 1001))
            assert large.value.reason == "MESSAGE_TOO_LARGE"
            with pytest.raises(errors.InvalidArgument):
                await client.unary(SERVICE + "Echo", b"\xff\xff")
            watched = Watched()
            await client.stream(SERVICE + "Count", wrap(b"1"), listener=watched)
            await until(lambda: watched.ends)
            assert isinstance(watched.ends[0], errors.Aborted)

    runs(scenario())


def test_deadline_and_cancellation_reach_the_handler(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            with pytest.raises(errors.DeadlineExceeded):
                await client.unary(SERVICE + "Slow", wrap(b"5"), timeout_s=0.1)
            await until(lambda: running.service.open == 0)
            running.service.cancelled.clear()
            slow = asyncio.create_task(client.unary(SERVICE + "Slow", wrap(b"5")))
            await until(lambda: running.service.open == 1)
            slow.cancel()
            await asyncio.wait_for(running.service.cancelled.wait(), 5)
            watched = Watched()
            stream = await client.stream(SERVICE + "Watch", b"", listener=watched)
            await until(lambda: running.service.open == 1)
            running.service.cancelled.clear()
            stream.close()
            await asyncio.wait_for(running.service.cancelled.wait(), 5)
            assert await client.unary(SERVICE + "Echo", wrap(b"a"))
            assert watched.ends == []

    runs(scenario())


def test_fan_out_reaches_both_kinds_of_clients(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client, wire(running) as plain:
            watched = Watched()
            await client.stream(SERVICE + "Watch", b"", listener=watched)
            plain.send(edge.request("Watch"))
            await plain.head()
            await until(lambda: len(running.service.slots) == 2)
            sizes = (0, 3, 119, 120, 70_000)
            for size in sizes:
                body = wrap(b"x" * size)
                assert running.fan_out.push(running.service.slots, [body, body]) == []
                assert (await plain.chunk())[5:] == body
            await until(lambda: len(watched.values) == len(sizes))
            assert [len(value) for value in watched.values] == list(sizes)

    runs(scenario())


def test_lane_answers_only_failures(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, channel(running) as client:
            await client.unary(SERVICE + "Echo", wrap(b"first"))
            failures: list[errors.RallypointError] = []
            for value in (b"a", b"b", b"c"):
                said = client.say(SERVICE + "Echo", wrap(value), token="t", failed=failures.append)
                assert said
            assert client.say(SERVICE + "Echo", b"\xff", token="t", failed=failures.append)
            assert client.say(SERVICE + "Echo", wrap(b"d"), token="u", failed=failures.append)
            await until(lambda: len(running.service.calls) == 5)
            await until(lambda: len(failures) == 1)
            seen = [call.metadata.get("authorization") for call in running.service.calls]
            assert seen == [None, *["Bearer t"] * 3, "Bearer u"]
            assert failures[0].reason == "MESSAGE_MALFORMED"

    runs(scenario())


def test_forwarded_address_is_that_of_the_handshake(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(proxies=("127.0.0.0/8",))
        async with edge.web(settings) as running, wire(running) as client:
            client.send(handshake(x_forwarded_for="198.51.100.7"))
            await client.head()
            client.send(message(1, "Echo"))
            await read_frame(client)
            assert running.service.calls[0].peer == "198.51.100.7"

    runs(scenario())


def test_messages_arrive_whole_however_they_are_cut(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, raw(running) as client:
            whole = message(20, "Echo") + message(21, "Echo", b"b" * 300)
            for byte in whole:
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            calls_ = websocket_frames.call(22, websocket_frames.head(SERVICE + "Echo"), b"")
            parts = [calls_[:3], b"", calls_[3:50], calls_[50:]]
            for number, part in enumerate(parts):
                opcode = 2 if number == 0 else 0
                frame = websocket_frames.frame(opcode, part, MASK)
                if number < len(parts) - 1:
                    frame = bytes([frame[0] & 0x7F]) + frame[1:]
                client.send(frame + websocket_frames.frame(9, b"are you there", MASK))
            answers = [await read_frame(client) for _ in range(7)]
            assert [payload[0] for first, payload in answers if first == 0x82] == [20, 21, 22]
            pings = [payload for first, payload in answers if first == 0x8A]
            assert pings == [b"are you there"] * 4

    runs(scenario())


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        pytest.param({"origin": "https://evil.test"}, 403, "ORIGIN_DENIED", id="origin"),
        pytest.param({"sec_websocket_version": "8"}, 426, "WEBSOCKET_VERSION", id="version"),
        pytest.param({"sec_websocket_key": None}, 400, "HANDSHAKE_MALFORMED", id="no key"),
        pytest.param({"sec_websocket_key": "c2hvcnQ="}, 400, "HANDSHAKE_MALFORMED", id="key"),
        pytest.param({"sec_websocket_protocol": None}, 400, "SUBPROTOCOL", id="no protocol"),
        pytest.param({"sec_websocket_protocol": "chat"}, 400, "SUBPROTOCOL", id="protocol"),
        pytest.param({"connection": None, "upgrade": None}, 426, "UPGRADE_REQUIRED", id="plain"),
        pytest.param({"upgrade": "h2c"}, 400, "UPGRADE_REFUSED", id="h2c"),
    ],
)
def test_handshake_is_refused(
    runs: Runs, changes: dict[str, str | None], status: int, reason: str
) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            response = await client.call(handshake(**changes))
            assert response.http_status == status
            assert response.error.reason == reason
            if status == 426:
                assert response.headers["sec-websocket-version"] == "13"
            await client.ends()

    runs(scenario())


def test_allowed_origin_may_open_one(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, wire(running) as client:
            client.send(handshake(origin="https://play.test"))
            assert (await client.head()).http_status == 101

    runs(scenario())


def test_connections_count_against_the_address(runs: Runs) -> None:
    async def scenario() -> None:
        settings = edge.tuned(trusted_ranges=(), max_connections_per_ip=1)
        async with edge.web(settings) as running, raw(running), channel(running) as second:
            with pytest.raises(errors.ResourceExhausted) as refused:
                await second.unary(SERVICE + "Echo", b"")
            assert refused.value.reason == "CONNECTIONS_PER_ADDRESS"
            await until(lambda: running.edge.statistics().connections == 1)

    runs(scenario())


def unmasked(frame: bytes) -> bytes:
    return bytes([frame[0], frame[1] & 0x7F]) + frame[6:]


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        pytest.param(unmasked(message(1, "Echo")), 1002, "MASK_MISSING", id="unmasked"),
        pytest.param(websocket_frames.frame(3, b"", MASK), 1002, "FRAME_UNKNOWN", id="opcode"),
        pytest.param(websocket_frames.frame(1, b"{}", MASK), 1003, "TEXT_UNSUPPORTED", id="text"),
        pytest.param(
            b"\x82\xff" + (1 << 20).to_bytes(8, "big"), 1009, "MESSAGE_TOO_LARGE", id="too large"
        ),
        pytest.param(websocket_frames.binary(b""), 1002, "CALL_MISSING", id="no call"),
        pytest.param(
            websocket_frames.binary(b"\x01\x80\0\0\0\x09a"), 1002, "HEAD_MALFORMED", id="head"
        ),
        pytest.param(message(1, "Slow", b"5") + message(1, "Echo"), 1008, "CALL_BUSY", id="busy"),
        pytest.param(websocket_frames.frame(8, b"\x03\xe8bye", MASK), 1000, "", id="goodbye"),
    ],
)
def test_violation_closes_with_its_code(runs: Runs, data: bytes, code: int, reason: str) -> None:
    async def scenario() -> None:
        async with edge.web() as running, raw(running) as client:
            client.send(data)
            assert await closed_with(client) == (code, reason)
            await until(lambda: running.edge.statistics().connections == 0)
            assert running.service.open == 0

    runs(scenario())


HEADLESS = websocket_frames.binary(websocket_frames.call(60, b"", b""))


async def end_of(client: Wire) -> dict[str, str]:
    """The trailers of the next answer."""
    _, payload = await read_frame(client)
    _, trailers = websocket_frames.answer(payload)
    assert trailers is not None
    return trailers


def reason_of(trailers: dict[str, str]) -> str:
    failure = grpcweb.failure(trailers)
    return failure.reason if failure is not None else ""


def test_calls_and_lanes_are_bounded(runs: Runs) -> None:
    async def scenario() -> None:
        async with edge.web() as running, raw(running) as client:
            for number in range(16, 32):
                client.send(message(number, "Slow", b"5"))
            client.send(message(40, "Echo"))
            assert reason_of(await end_of(client)) == "CALLS_EXCEEDED"
            assert running.service.open == 16
            client.send(websocket_frames.binary(websocket_frames.cancel(16)))
            assert (await end_of(client))["grpc-status"] == "1"
            for number in range(50, 55):
                client.send(message(number, "Echo", lane=True))
            assert reason_of(await end_of(client)) == "LANES_EXCEEDED"
            client.send(HEADLESS)
            assert reason_of(await end_of(client)) == "HEAD_MISSING"
            client.send(message(61, "Watch", lane=True))
            assert reason_of(await end_of(client)) == "ANSWER_UNSUPPORTED"

    runs(scenario())


@pytest.mark.parametrize(
    ("nonsense", "reason"),
    [
        pytest.param(HEADLESS, "HEAD_MISSING", id="no head"),
        pytest.param(message(60, "Nothing"), "METHOD_UNKNOWN", id="no method"),
        pytest.param(message(60, "Slow", b"5"), "TOKEN_MISSING", id="no session"),
    ],
)
def test_nonsense_is_answered_so_often_and_then_closes(
    runs: Runs, nonsense: bytes, reason: str
) -> None:
    def deny(call: calls.Call, method: calls.Method) -> None:
        if method.path == SERVICE + "Slow":
            raise errors.Unauthenticated("TOKEN_MISSING")

    async def scenario() -> None:
        settings = edge.tuned(refusals_per_websocket_per_s=0.25)
        async with edge.web(settings, guard=deny) as running, raw(running) as client:
            client.send(message(20, "Watch") + message(60, "Refuse") * 50 + nonsense * 10)
            answers = [reason_of(await end_of(client)) for _ in range(55)]
            assert answers == ["TOO_OFTEN"] * 50 + [reason] * 5
            assert await closed_with(client) == (1008, "REFUSALS_EXCEEDED")
            await until(lambda: running.edge.statistics().connections == 0)
            assert running.service.open == 0

    runs(scenario())


def test_guard_is_asked_for_every_call(runs: Runs) -> None:
    def deny(call: calls.Call, method: calls.Method) -> None:
        if call.metadata.get("authorization") != "Bearer good":
            raise errors.Unauthenticated("TOKEN_MISSING")

    async def scenario() -> None:
        async with edge.web(guard=deny) as running, channel(running) as client:
            with pytest.raises(errors.Unauthenticated):
                await client.unary(SERVICE + "Echo", wrap(b""))
            assert await client.unary(SERVICE + "Echo", wrap(b"a"), token="good")
            failures: list[errors.RallypointError] = []
            client.say(SERVICE + "Echo", wrap(b""), token="bad", failed=failures.append)
            await until(lambda: failures)
            assert isinstance(failures[0], errors.Unauthenticated)

    runs(scenario())
