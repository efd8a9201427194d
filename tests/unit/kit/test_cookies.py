"""The kernel's number of a socket, by whatever loop the socket is served."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from rallypoint.kit import cookies

SO_COOKIE = 57


async def cookie_of_a_connection() -> tuple[str, str]:
    """As we read it and as its owner does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        raw = near.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        _, writer = await asyncio.open_connection(sock=near)
        read = cookies.of_transport(writer.transport)
        writer.write(b"still open")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert cookies.of_transport(writer.transport) == ""
        return read, str(struct.unpack("=Q", raw)[0])


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_connection_tells_its_cookie(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        read, own = runner.run(cookie_of_a_connection())
    assert read == own != "0"


def test_without_a_connection_there_is_none() -> None:
    assert cookies.of_transport(None) == ""
