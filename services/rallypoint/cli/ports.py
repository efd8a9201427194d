"""Ports on loopback: free ones from the kernel, and whether the user's own is taken."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from rallypoint.cli import datadir, plan


def free(listeners: Sequence[str]) -> plan.Ports:
    """A distinct free port for each listener, all held at once so that none comes twice."""
    with contextlib.ExitStack() as held:
        found = {}
        for name in listeners:
            holder = held.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            found[name] = int(holder.getsockname()[1])
    return plan.Ports(by_name=found)


def free_one() -> int:
    """One free port."""
    return free(("one",))["one"]


def refuse_taken(host: str, port: int) -> None:
    """Refused when something already listens where the page should be."""
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise datadir.Refused(f"port {port} on {host} {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use: stop the program that holds it, or choose another with --port"
    if error.errno == errno.EACCES:
        return "needs privileges: choose one above 1023 with --port"
    return f"cannot be used ({error.strerror}): choose an address of this machine with --host"
