"""The kernel's own number of a socket, by which the node probe's events name it (SO_COOKIE)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import unquote

ATTRIBUTE: Final = "rallypoint.socket.cookie"
_SO_COOKIE: Final = 57
_DESCRIPTORS: Final = "/proc/self/fd"
_REST: Final = 20
"""After a look at all descriptors, as many times its duration nobody looks again."""
_DESCRIPTORS_MOST: Final = 512
"""With more of them nobody looks: it would hold up the loop, and all who play, for milliseconds."""

Peer = tuple[str, int]


def of_transport(transport: asyncio.BaseTransport | None) -> str:
    """The cookie of a connection; empty where there is none: no Linux, or closed already."""
    owned = transport.get_extra_info("socket") if transport is not None else None
    if owned is None or owned.fileno() < 0:
        return ""
    # What uvloop hands out has no getsockopt: look at the same descriptor, and leave it open.
    looking = socket.socket(fileno=owned.fileno())
    try:
        return _cookie(looking)
    except OSError:
        return ""
    finally:
        looking.detach()


def _cookie(sock: socket.socket) -> str:
    (number,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
    return str(number)


def peer_of(text: str) -> Peer | None:
    """Read `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`, as gRPC writes a peer."""
    kind, _, rest = unquote(text).partition(":")
    address, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return _plain(address.strip("[]")), int(port)


def _plain(address: str) -> str:
    """An IPv4 address may come dressed as IPv6."""
    return address.removeprefix("::ffff:") if "." in address else address


class _Known(NamedTuple):
    fd: int
    link: str
    cookie: str


class Peers:
    """This process's connections by who is at the other end: gRPC's library shows no socket.

    All descriptors are looked at when a peer is unknown, but for at most a twentieth of the time:
    one that comes in between has no cookie, nor has any new one in a process of many. Worth its
    price for spans that are recorded, only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Peer, _Known] = {}
        self._next_look = float("-inf")

    def cookie(self, peer: Peer) -> str:
        """The cookie of the connection from `peer`; empty if there is none, or nobody may look."""
        known = self._known.get(peer)
        if known is not None and _link(known.fd) == known.link:
            return known.cookie
        begun = self._clock()
        if begun < self._next_look:
            return ""
        self._known = _look()
        self._next_look = begun + _REST * (self._clock() - begun)
        found = self._known.get(peer)
        return found.cookie if found is not None else ""


def _look() -> dict[Peer, _Known]:
    try:
        names = os.listdir(_DESCRIPTORS)
    except OSError:  # no Linux
        return {}
    if len(names) > _DESCRIPTORS_MOST:
        return {}
    found = {}
    for name in names:
        link = _link(int(name))
        if link.startswith("socket:"):
            found.update(_connection(int(name), link))
    return found


def _connection(fd: int, link: str) -> dict[Peer, _Known]:
    """A connection by its peer, if the descriptor is one."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # closed while we looked
        return {}
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return {}
        address, port, *_ = sock.getpeername()
        return {(_plain(address), port): _Known(fd, link, _cookie(sock))}
    except OSError:  # it listens
        return {}
    finally:
        sock.detach()


def _link(fd: int) -> str:
    try:
        return os.readlink(f"{_DESCRIPTORS}/{fd}")
    except OSError:
        return ""


PEERS: Final = Peers()
