"""The TCP connections of this network namespace, as the kernel lists them (netlink, inet_diag).

Needs no right. What the kernel does not list it cannot: OSError where netlink is refused, or where
there is no Linux.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

MESSAGE_BYTES: Final = 72
"""`struct inet_diag_msg`; attributes follow."""
_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_ESTABLISHED: Final = 1 << 1
_BYTECODE: Final = 1
_AT_LEAST, _AT_MOST = 2, 3
"""Operations on the own port; one is given in the next operation, and both skip that."""
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48s")
_ATTRIBUTE: Final = struct.Struct("=HH")
_OPERATIONS: Final = struct.Struct("=BBHBBHBBHBBH")
_PEER: Final = struct.Struct(">6xH16x16s")
_COOKIE: Final = struct.Struct("=44xQ")
_INODE: Final = struct.Struct("=68xI")
_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


class Connection(NamedTuple):
    """One of them, seen from our end."""

    cookie: int
    inode: int
    """0 while nobody has accepted it."""
    address: str
    """The other end's."""
    peer_port: int


def at_port(port: int) -> list[Connection]:
    """Every established connection to a port of ours."""
    return [_connection(message) for message in messages(port=port)]


def messages(*, port: int = 0, extensions: int = 0) -> Iterator[bytes]:
    """The kernel's message for each established connection, of an own `port` or (0) of all;
    `extensions` is a mask of what it shall say besides."""
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("there is no netlink here")
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, 0, _ESTABLISHED, b"")
            body += _only(port) if port else b""
            size = _HEADER.size + len(body)
            asking.send(_HEADER.pack(size, _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
            yield from _answers(asking)


def _only(port: int) -> bytes:
    """A filter; where an operation fails it goes on past the end, which is no."""
    code = _OPERATIONS.pack(_AT_LEAST, 8, 20, 0, 0, port, _AT_MOST, 8, 12, 0, 0, port)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(code), _BYTECODE) + code


def _answers(asking: socket.socket) -> Iterator[bytes]:
    while True:
        data, at = asking.recv(1 << 18), 0
        while at < len(data):
            size, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", data, at + _HEADER.size)
                raise OSError(-number, os.strerror(-number))
            yield data[at + _HEADER.size : at + size]
            at += (size + 3) & ~3


def _connection(message: bytes) -> Connection:
    (cookie,) = _COOKIE.unpack_from(message)
    (inode,) = _INODE.unpack_from(message)
    peer_port, address = _PEER.unpack_from(message)
    if message[0] == socket.AF_INET:
        address = address[:4]
    elif address.startswith(_MAPPED):
        address = address[len(_MAPPED) :]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return Connection(cookie, inode, socket.inet_ntop(family, address), peer_port)
