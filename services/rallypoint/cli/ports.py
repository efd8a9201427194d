"""Ports on loopback: free ones, and whether the user's own is taken."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from collections.abc import Sequence

from rallypoint.cli import datadir, plan

_RANGE = range(12_000, 30_000)
"""Below the ports that kernels give to connections which go out, and clusters to their nodes: who
is started again at its port finds it free."""
_TRIES = 100


def free(listeners: Sequence[str], *, besides: int | None = None) -> plan.Ports:
    """A free port for each listener, none of them twice and none `besides`, which is promised."""
    with contextlib.ExitStack() as held:
        return plan.Ports(by_name={name: _hold(held, besides) for name in listeners})


def _hold(held: contextlib.ExitStack, besides: int | None) -> int:
    """Bind to a free port until `held` is left; any of the kernel's where the range is full.

    Without SO_REUSEADDR: with it two sockets that do not listen may be bound to the same port.
    """
    for port in (*(secrets.choice(_RANGE) for _ in range(_TRIES)), 0):
        if port == besides:
            continue
        holder = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            holder.bind((plan.LOCALHOST, port))
            return int(holder.getsockname()[1])
    raise datadir.Refused("this machine has no free port")


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
