"""A studio's webhook may answer what it likes, or nothing: it is refused, never an odd error."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from rallypoint.fleet.operator import asking

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + b'{"servers":7}'


async def hung_up(writer: asyncio.StreamWriter, closed: asyncio.Event) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    closed.set()


def asked(answer: bytes, *, within_s: float = 20.0) -> int:
    """What comes of a webhook that says this, and then nothing until nobody waits any more."""

    async def scenario() -> int:
        over, closed = asyncio.Event(), asyncio.Event()

        async def webhook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")  # closing on what was not read would break the pipe
            writer.write(answer)
            if not answer:
                await over.wait()
            await hung_up(writer, closed)

        server = await asyncio.start_server(webhook, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            try:
                return await asking.ask(url, {"set": "arena"}, within_s=within_s)
            finally:
                over.set()
                await closed.wait()

    return asyncio.run(scenario())


def test_a_number_of_servers_is_taken() -> None:
    assert asked(GOOD) == 7
    assert asked(GOOD.replace(b"200 OK", b"202 Accepted")) == 7


def test_a_long_answer_is_refused() -> None:
    with pytest.raises(asking.Refused, match="longer"):
        asked(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 10_000 + b'{"servers":7}')


@pytest.mark.parametrize("answer", [b"rubbish\r\n\r\n", GOOD[:-5], b"HTTP/1.1 200 OK\r\n" * 200])
def test_rubbish_is_refused(answer: bytes) -> None:
    with pytest.raises(asking.Refused):
        asked(answer)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:port/", "file:///etc/passwd", "http://", "no", "http://[::1", "http://a b/"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(asking.Refused, match=re.escape(url)):
        asyncio.run(asking.ask(url, {}))


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_who_drips_is_hung_up_on(begin: bytes) -> None:
    async def scenario() -> None:
        left = asyncio.Event()

        async def webhook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            writer.write(begin)
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"H")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            await hung_up(writer, left)

        server = await asyncio.start_server(webhook, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(asking.Refused, match="no whole answer"):
                await asking.ask(url, {}, within_s=0.3)
            async with asyncio.timeout(10):
                await left.wait()

    asyncio.run(scenario())


def test_who_says_nothing_is_not_waited_for() -> None:
    with pytest.raises(asking.Refused, match="no whole answer"):
        asked(b"", within_s=0.1)
