"""The floor of `bench rooms`: what the kernel alone costs for the same bytes at the same rates.

A server in C sends frames and reads inputs (and answers them, where the transport does) with the
byte counts of a measured run, on as many sockets and the same two cores; its CPU time per player
and second is the floor. Runs as two processes: `server` and `load`, each with a Floor as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from rallypoint.cli import child

SECONDS = 4.0
BACKLOG = 4096
HOST = "127.0.0.1"


class FloorFailed(Exception):
    """The floor could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What to send and to read."""

    players: int
    frame_bytes: int
    input_bytes: int
    answer_bytes: int = 0
    """0: inputs come over the stream's own socket and are not answered."""
    frame_hz: int = 20
    input_hz: int = 10
    seconds: float = SECONDS
    port: int = 0

    @property
    def sockets(self) -> int:
        """Connections of all players."""
        return self.players * (2 if self.answer_bytes else 1)


async def measure(floor: Floor, *, servers: Iterable[int], load: Iterable[int]) -> float:
    """CPU µs per player and second of the server's core."""
    async with _started("server", floor, cpus=servers) as server:
        assert server.stdout is not None
        port = json.loads(await server.stdout.readline() or b"0")
        async with _started("load", dataclasses.replace(floor, port=port), cpus=load):
            line = await server.stdout.readline()
    if not line:
        raise FloorFailed("the floor's server ended early")
    result = json.loads(line)
    expected = floor.players * floor.frame_hz * floor.seconds
    if result["frames"] < 0.9 * expected:
        raise FloorFailed(f"only {result['frames']} of {expected:.0f} frames were sent")
    cpu_s, seconds = float(result["cpu_s"]), float(result["seconds"])
    return round(cpu_s / seconds / floor.players * 1e6, 1)


@contextlib.asynccontextmanager
async def _started(
    role: str, floor: Floor, *, cpus: Iterable[int]
) -> AsyncIterator[asyncio.subprocess.Process]:
    parent = os.getpid()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rallypoint.cli.bench_floor",
        role,
        json.dumps(dataclasses.asdict(floor)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: child.bind_to_parent(parent, cpus=cpus),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def serve(floor: Floor) -> None:
    """Print the port, serve, print what was done."""
    from rallypoint.cli import _load

    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        print(listener.getsockname()[1], flush=True)
        result = _load.serve_floor(
            listener.fileno(),
            floor.players,
            floor.sockets,
            floor.frame_bytes,
            floor.answer_bytes,
            floor.frame_hz,
            floor.seconds,
        )
    print(json.dumps(result), flush=True)


def play(floor: Floor) -> None:
    """Read and send until our input ends."""
    from rallypoint.cli import _load

    load = _load.Load(
        host=HOST,
        port=floor.port,
        transport="raw",
        input_hz=floor.input_hz,
        inputs=bytes(floor.input_bytes),
        input_size=floor.input_bytes,
    )
    playing = threading.Thread(target=load.run, name="play")
    playing.start()
    for _ in range(floor.players):
        load.add(b"D", b"U" if floor.answer_bytes else b"")
    sys.stdin.read()
    load.stop()
    playing.join()


if __name__ == "__main__":
    {"server": serve, "load": play}[sys.argv[1]](Floor(**json.loads(sys.argv[2])))
