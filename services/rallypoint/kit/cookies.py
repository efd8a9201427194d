"""The kernel's own number of a socket, by which the node probe's events name it (SO_COOKIE)."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

ATTRIBUTE: Final = "rallypoint.socket.cookie"
_SO_COOKIE: Final = 57


def of_transport(transport: asyncio.BaseTransport | None) -> str:
    """The cookie of a connection; empty where there is none: no Linux, or closed already."""
    owned = transport.get_extra_info("socket") if transport is not None else None
    if owned is None or owned.fileno() < 0:
        return ""
    # What uvloop hands out has no getsockopt: look at the same descriptor, and leave it open.
    looking = socket.socket(fileno=owned.fileno())
    try:
        (number,) = struct.unpack("=Q", looking.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
    except OSError:
        return ""
    finally:
        looking.detach()
    return str(number)
