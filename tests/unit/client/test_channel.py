"""Calls over a real connection to a small server that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rallypoint.client import channel
from rallypoint.kit import errors

OK = b"\x80\x00\x00\x00\x0egrpc-status: 0"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\n"
Use = Callable[[channel.WebChannel], Awaitable[None]]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "https://",
        "host:8080",
        "http://",
        "http://[::1",
        "http://host:x",
        "ws://host:99999",
        "ws:",
    ],
)
def test_url_of_no_server_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="URL_INVALID"):
        channel.open_channel(url)


@pytest.mark.parametrize(
    ("url", "transport", "wanted"),
    [
        ("http://host:1", "websocket", "ws://host:1"),
        ("https://host", "websocket", "wss://host"),
        ("https://host", "grpc-web", "https://host"),
        ("grpc://host:1", "websocket", "grpc://host:1"),
    ],
)
def test_transport_decides_the_scheme_and_tls_stays(url: str, transport: str, wanted: str) -> None:
    assert channel.address(url, transport) == wanted


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


def answer(body: bytes, *, head: bytes = HEAD) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def served(answers: list[bytes | None], use: Use) -> int:
    """Answer requests with `answers` in turn (None: close instead); how many connections came."""
    connections = 0
    left = list(answers)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while left:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            reply = left.pop(0)
            if reply is None:
                break
            writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            opened = channel.WebChannel(f"http://127.0.0.1:{port}")
            try:
                async with asyncio.timeout(5):
                    await use(opened)
            finally:
                await opened.close()

    asyncio.run(run())
    return connections


def test_unary_call_returns_the_message() -> None:
    async def use(opened: channel.WebChannel) -> None:
        assert await opened.unary("/a.B/C", b"x") == b"yes"
        assert await opened.unary("/a.B/C", b"x") == b""

    replies = [answer(message(b"yes") + OK), answer(message(b"") + OK)]
    assert served([*replies], use) == 1


def test_connection_closed_while_idle_is_replaced() -> None:
    async def use(opened: channel.WebChannel) -> None:
        assert await opened.unary("/a.B/C", b"") == b"1"
        assert await opened.unary("/a.B/C", b"") == b"2"

    assert served([answer(message(b"1") + OK), None, answer(message(b"2") + OK)], use) == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b"\x80\x00\x00\x00\x0egrpc-status: 5"), errors.NotFound),
        (answer(b"", head=HEAD + b"grpc-status: 16\r\n"), errors.Unauthenticated),
        (answer(b"busy", head=b"HTTP/1.1 503 Busy\r\n"), errors.Unavailable),
        (answer(message(b"x")), errors.Internal),
        (b"nonsense\r\n\r\n", errors.Unavailable),
        (None, errors.Unavailable),
    ],
    ids=["trailer", "trailers-only", "http-status", "no-status", "no-http", "closed"],
)
def test_failed_call_raises_its_kind(reply: bytes | None, kind: type[Exception]) -> None:
    async def use(opened: channel.WebChannel) -> None:
        with pytest.raises(kind):
            await opened.unary("/a.B/C", b"")

    served([reply], use)


@pytest.mark.parametrize("status", [b"200", b"404"])
def test_page_of_another_server_is_told_by_its_status(status: bytes) -> None:
    async def use(opened: channel.WebChannel) -> None:
        with pytest.raises(errors.RallypointError, match=f"HTTP_{status.decode()}"):
            await opened.unary("/a.B/C", b"")

    page = b"<html>whatever else listens here</html>"
    served([answer(page, head=b"HTTP/1.1 %b Said\r\ncontent-type: text/html\r\n" % status)], use)


def test_late_answer_is_a_missed_deadline() -> None:
    async def use(opened: channel.WebChannel) -> None:
        with pytest.raises(errors.DeadlineExceeded):
            await opened.unary("/a.B/C", b"", timeout_s=0.05)

    served([HEAD, b""], use)


def test_refused_connection_is_unavailable() -> None:
    async def use(_: channel.WebChannel) -> None:
        nowhere = channel.WebChannel("http://127.0.0.1:1")
        with pytest.raises(errors.Unavailable):
            await nowhere.unary("/a.B/C", b"")

    served([], use)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ended: asyncio.Future[errors.RallypointError | None] = asyncio.Future()

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_end(self, error: errors.RallypointError | None) -> None:
        self.ended.set_result(error)


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def test_stream_pushes_messages_until_its_status() -> None:
    async def use(opened: channel.WebChannel) -> None:
        heard = Heard()
        await opened.stream("/a.B/S", b"", listener=heard)
        assert await heard.ended is None
        assert heard.messages == [b"one", b"two", b"three"]

    one, two, three = message(b"one"), message(b"two"), message(b"three")
    served([chunked(one + two[:3], two[3:] + three, OK)], use)


def test_stream_cut_short_ends_with_unavailable() -> None:
    async def use(opened: channel.WebChannel) -> None:
        heard = Heard()
        await opened.stream("/a.B/S", b"", listener=heard)
        assert isinstance(await heard.ended, errors.Unavailable)
        assert heard.messages == [b"one"]

    cut = chunked(message(b"one"))[: -len(b"0\r\n\r\n")]
    served([cut, b""][:1], use)


@pytest.mark.parametrize("url", ["ws://x", "ftp://x", "nothing"])
def test_address_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        channel.WebChannel(url)
