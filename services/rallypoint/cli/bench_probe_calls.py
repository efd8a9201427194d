"""What following calls costs: in the kernel a packet of a call and of what is no call, and to read.

ns_per_run         mean run of the dearer program on packets that hold a call's frames
us_per_round_trip  CPU that a round trip of another protocol costs more, both ends; median
us_per_call        the reader's CPU for one call, told by both of its ends
verified_insns     instructions the verifier went through
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rallypoint.kit import errors
from rallypoint.probe import libbpf, owners, session, wish
from rallypoint.probe.domain import calls

CALLS = 4000
AT_ONCE = 100
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = bytes(3) + b"\x04" + bytes(5)
_FIRST = b"\x83\x86\x44\x10/pkg.Svc/Method1\x5f\x10application/grpc"
_AGAIN = b"\x83\x86\xbf\xbe"


def measure(
    turns: int, wanted: wish.Wanted, port: int, echo: Callable[[], float]
) -> dict[str, Any]:
    """All figures; why there are none where calls cannot be followed."""
    root = owners.find_root()
    following = replace(wanted, calls_cgroup=str(root or ""))
    if root is None:
        return {"refused": "no cgroup hierarchy"}
    more = []
    for _ in range(turns):
        with session.Session(wanted):
            without = echo()
        with session.Session(following) as probe:
            more.append(echo() - without)
    if probe.loaded.calls_refused:
        return {"refused": probe.loaded.calls_refused}
    return {
        **_followed(replace(following, ports=(port,)), port),
        "us_per_round_trip": round(statistics.median(more), 3),
    }


def _followed(wanted: wish.Wanted, port: int) -> dict[str, Any]:
    follower, reading_s = calls.Calls(), 0.0
    with (
        session.Session(wanted) as probe,
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(("127.0.0.1", port)) as client,
        listener.accept()[0] as server,
    ):
        assert probe.calls is not None
        timing = libbpf.enable_stats()
        client.sendall(_PREFACE + _SETTINGS)
        server.sendall(_SETTINGS)
        for first in range(0, CALLS, AT_ONCE):
            for number in range(first, first + AT_ONCE):
                _call(client, server, number)
            begun = time.process_time()
            follower.take(probe.calls.events())
            reading_s += time.process_time() - begun
        costs = probe.calls.costs()
        os.close(timing)
    told = sum(timed.values.count for key, timed in follower.series.items() if key.port == port)
    if told != 2 * CALLS:
        raise errors.Internal("CALLS_MISSED", f"{told} of {2 * CALLS} were told")
    return {
        "ns_per_run": round(max(cost.run_ns / cost.runs for cost in costs), 1),
        "us_per_call": round(reading_s / CALLS * 1e6, 2),
        "verified_insns": sum(cost.instructions for cost in costs),
    }


def _call(client: socket.socket, server: socket.socket, number: int) -> None:
    stream = (2 * number + 1).to_bytes(4, "big")
    block = _AGAIN if number else _FIRST
    client.sendall(len(block).to_bytes(3, "big") + b"\x01\x05" + stream + block)
    server.recv(65_536)
    server.sendall(b"\x00\x00\x01\x01\x05" + stream + b"\x88")
    client.recv(65_536)
