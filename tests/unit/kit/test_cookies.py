"""The kernel's number of a socket, by whatever loop the socket is served."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack

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


def own_cookie(sock: socket.socket) -> str:
    return str(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])


def test_a_connection_is_found_by_its_peer_and_not_after_it_has_gone() -> None:
    now = [0.0]
    peers = cookies.Peers(clock=lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = listener.getsockname()
        for _ in range(2):
            with socket.create_connection(here) as near, listener.accept()[0] as far:
                peer = near.getsockname()
                assert peers.cookie(peer) == own_cookie(far)
                assert peers.cookie(here) == own_cookie(near)
                assert far.getpeername() == peer  # it is still ours to use
            assert peers.cookie(peer) == ""


def test_who_is_unknown_is_looked_for_a_twentieth_of_the_time() -> None:
    ticks = iter(range(1000))
    peers = cookies.Peers(clock=lambda: float(next(ticks)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert peers.cookie(("127.0.0.1", 1)) == ""  # from 0 to 1
        with socket.create_connection(listener.getsockname()) as near, listener.accept()[0] as far:
            told = [peers.cookie(near.getsockname()) for _ in range(30)]
            assert told == [""] * 18 + [own_cookie(far)] * 12


def test_among_many_descriptors_nobody_looks() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        with ExitStack() as many:
            for _ in range(512):
                many.callback(os.close, os.dup(far.fileno()))
            assert cookies.Peers().cookie(near.getsockname()) == ""
        assert cookies.Peers().cookie(near.getsockname()) == own_cookie(far)


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:7", ("10.0.0.1", 7)),
        ("unix:/run/a.sock", None),
        ("ipv4:127.0.0.1", None),
        ("", None),
    ],
)
def test_a_peer_is_read_as_grpc_writes_it(text: str, peer: tuple[str, int] | None) -> None:
    assert cookies.peer_of(text) == peer
