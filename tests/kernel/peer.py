"""One end of a conversation, in a namespace and a cgroup; it reports what it saw as JSON.

`python -m tests.kernel.peer <json of Part>`. A server prints "ready" when it listens.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.kernel import call_plays, netns, witness

TCP_INFO_TOTAL_RETRANS_AT = 100
SO_COOKIE = 57


@dataclass(frozen=True, slots=True)
class Part:
    """What to play."""

    play: str
    netns: str = ""
    cgroup: str = ""
    address: str = "127.0.0.1"
    port: int = 0
    count: int = 100
    connections: int = 1
    size: int = 64
    gap_ms: float = 0.0
    read_late_ms: float = 0.0
    think_ms: float = 0.0
    hz: float = 0.0
    seconds: float = 0.0
    receive_buffer: int = 0

    def dump(self) -> str:
        """As the argument."""
        return json.dumps(asdict(self))


def stamped(sock: socket.socket) -> None:
    """Have the kernel tell when what is received has come; it takes a moment to begin to."""
    sock.setsockopt(socket.SOL_SOCKET, witness.SO_TIMESTAMPNS, 1)
    time.sleep(0.05)


def take(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """A message of one segment or datagram, and when it came."""
    data, ancillary, _, _ = sock.recvmsg(size, 64)
    return data, witness.stamp_of(ancillary) if data else 0


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def total_retrans(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS_AT)[0])


def cookie(sock: socket.socket) -> int:
    return int(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])


def serve_echo(part: Part) -> dict[str, Any]:
    """Answer every message; late to read, slow to think. How long each lay and took."""
    with socket.create_server((part.address, part.port), backlog=1024) as listener:
        stamped(listener)
        print("ready", flush=True)
        open_ = [listener.accept()[0] for _ in range(part.connections)]
    waited, answered = [], []
    while open_:
        for sock in select.select(open_, [], [])[0]:
            time.sleep(part.read_late_ms / 1000)
            data, came = take(sock, part.size)
            if not data:
                open_.remove(sock)
                sock.close()
                continue
            waited.append((time.time_ns() - came) / 1e9)
            time.sleep(part.think_ms / 1000)
            sock.sendall(data)
            answered.append((time.time_ns() - came) / 1e9)
    return {"waited_s": waited, "answered_s": answered}


def ask(part: Part) -> dict[str, Any]:
    """Connect, send, wait for the answer."""
    connects, times, socks = [], [], []
    for _ in range(part.connections):
        begun = time.monotonic()
        socks.append(socket.create_connection((part.address, part.port)))
        connects.append(time.monotonic() - begun)
        socks[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(part.count):
        for sock in socks:
            begun = time.monotonic()
            sock.sendall(b"x" * part.size)
            exactly(sock, part.size)
            times.append(time.monotonic() - begun)
            time.sleep(part.gap_ms / 1000)
    retransmits = sum(map(total_retrans, socks))
    cookies = [cookie(sock) for sock in socks]
    for sock in socks:
        sock.close()
    return {"connect_s": connects, "times_s": times, "retransmits": retransmits, "cookies": cookies}


def serve_rounds(part: Part) -> dict[str, Any]:
    """Answer every connection in turn, `count` times over: lean, for counting alone."""
    with socket.create_server((part.address, part.port), backlog=1024) as listener:
        print("ready", flush=True)
        socks = [listener.accept()[0] for _ in range(part.connections)]
    for sock in socks * part.count:
        sock.send(sock.recv(part.size))
    for sock in socks:
        sock.recv(1)
        sock.close()
    return {}


def ask_rounds(part: Part) -> dict[str, Any]:
    """Say something on every connection, then hear every answer; `count` times over."""
    there, words = (part.address, part.port), b"x" * part.size
    socks = [socket.create_connection(there) for _ in range(part.connections)]
    for _ in range(part.count):
        for sock in socks:
            sock.send(words)
        for sock in socks:
            sock.recv(part.size)
    for sock in socks:
        sock.close()
    return {}


def serve_cut(part: Part) -> dict[str, Any]:
    """Take every connection and cut it off: a reset, no farewell."""
    with socket.create_server((part.address, part.port), backlog=1024) as listener:
        print("ready", flush=True)
        for _ in range(part.connections):
            with listener.accept()[0] as sock:
                sock.recv(1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    return {}


def knock(part: Part) -> dict[str, Any]:
    """Connect, speak, wait to be cut off; how many were, and how many were refused at once."""
    refused = cut = 0
    for _ in range(part.connections):
        try:
            with socket.create_connection((part.address, part.port)) as sock:
                sock.sendall(b"x")
                sock.recv(1)
        except ConnectionRefusedError:
            refused += 1
        except ConnectionResetError:
            cut += 1
    return {"refused": refused, "cut": cut}


def _tick(sock: socket.socket, part: Part) -> dict[str, Any]:
    """Send at a fixed rate, whatever comes; read at once what does."""
    end = time.monotonic() + part.seconds
    due = time.monotonic()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (now := time.monotonic()) < end:
        if now >= due:
            sock.sendall(b"x" * part.size)
            due += 1 / part.hz
        if select.select([sock], [], [], max(0.0, due - time.monotonic()))[0] and not sock.recv(
            65536
        ):
            break
    return {}


def serve_ticks(part: Part) -> dict[str, Any]:
    """Accept one, then tick."""
    with socket.create_server((part.address, part.port)) as listener:
        print("ready", flush=True)
        with listener.accept()[0] as sock:
            return _tick(sock, part)


def tick(part: Part) -> dict[str, Any]:
    """Connect, then tick."""
    with socket.create_connection((part.address, part.port)) as sock:
        return _tick(sock, part)


def serve_datagrams(part: Part) -> dict[str, Any]:
    """Take `count` datagrams, late; or none until standard input closes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if part.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, part.receive_buffer)
        sock.bind((part.address, part.port))
        stamped(sock)
        print("ready", flush=True)
        waited = []
        if not part.count:
            sys.stdin.read()
        for _ in range(part.count):
            select.select([sock], [], [])
            time.sleep(part.read_late_ms / 1000)
            _, came = take(sock, part.size)
            waited.append((time.time_ns() - came) / 1e9)
    return {"waited_s": waited}


def send_datagrams(part: Part) -> dict[str, Any]:
    """Send `count` datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((part.address, part.port))
        for _ in range(part.count):
            sock.send(b"x" * part.size)
            time.sleep(part.gap_ms / 1000)
    return {}


CALLS = (
    call_plays.serve_grpc,
    call_plays.ask_grpc,
    call_plays.serve_dns,
    call_plays.ask_dns,
)
ECHOES = (serve_echo, ask, serve_rounds, ask_rounds, serve_cut, knock, serve_ticks, tick)
PLAYS = {play.__name__: play for play in (*ECHOES, serve_datagrams, send_datagrams, *CALLS)}


def main() -> None:
    netns.hurry()
    part = Part(**json.loads(sys.argv[1]))
    if part.cgroup:
        Path(part.cgroup, "cgroup.procs").write_text("0")
    if part.netns:
        netns.enter(part.netns)
    print(json.dumps(PLAYS[part.play](part)), flush=True)


if __name__ == "__main__":
    main()
