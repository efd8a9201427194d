"""`rallypoint up` as its own process on a free port, for tests that look from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rallypoint.cli import child
from rallypoint.cli.ports import free_one
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from tests.support import door
from tests.support.waiting import wait_until

START_S = 60.0
STOP_S = 30.0


@dataclass
class StackProcess:
    """A running stack: where it is, and its children by name."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path
    lines: list[str] = field(default_factory=list)

    def pid(self, name: str) -> int:
        """The present process id of a child, 0 while there is none."""
        state = json.loads((self.data_dir / "state.json").read_text())
        return next((int(p["pid"]) for p in state["processes"] if p["name"] == name), 0)

    def room_node(self, room_id: str) -> str:
        """The child that runs a room."""
        # A thread of its own: where Playwright runs, a loop runs already.
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, self._room_node(room_id)).result()

    async def _room_node(self, room_id: str) -> str:
        state = json.loads((self.data_dir / "state.json").read_text())
        bus = await Bus.connect(state["nats_url"], name="test")
        try:
            entry = await bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room_id)))
        finally:
            await bus.close()
        assert entry is not None
        record = events_pb2.OwnRecord.FromString(entry.value or b"")
        return f"room-state-{record.node_id.rpartition('-')[2]}"

    def kill(self, name: str) -> int:
        """Kill a child with SIGKILL; `up` starts it again. Returns the dead process's id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def answers(self) -> bool:
        """Whether the page is served."""
        return door.opens(self.url)

    def wait_answers(self) -> None:
        """Wait until the page is served again."""
        wait_until(self.answers, "the gateway answers")


@contextmanager
def running(
    data_dir: Path, *, queues: Sequence[dict[str, Any]], room_nodes: int = 1
) -> Iterator[StackProcess]:
    """Start the stack with these queues and stop it as Ctrl-C would."""
    port = free_one()
    words = [sys.executable, "-m", "rallypoint", "up", "--port", str(port)]
    words += ["--data-dir", str(data_dir), "--room-nodes", str(room_nodes)]
    for document in queues:
        words += ["--queue", json.dumps(document)]
    parent = os.getpid()
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A killed pytest stops the stack as well.
        preexec_fn=lambda: child.bind_to_parent(parent, last_signal=signal.SIGTERM),
    )
    stack = StackProcess(process, f"http://127.0.0.1:{port}", data_dir)
    reader = threading.Thread(target=_read, args=(stack,), name="stack-output", daemon=True)
    reader.start()
    try:
        _wait_ready(stack)
        yield stack
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
        reader.join(5)
        if process.stdout is not None:
            process.stdout.close()


def _read(stack: StackProcess) -> None:
    for line in stack.process.stdout or ():
        stack.lines.append(line.rstrip())


def _wait_ready(stack: StackProcess) -> None:
    def ready() -> bool:
        assert stack.process.poll() is None, "\n".join(stack.lines)
        # Not the line of a stack that gives up: that a child "did not become ready in" its time.
        return any(line.startswith("ready in ") for line in stack.lines)

    try:
        wait_until(ready, "the stack is ready", within_s=START_S)
    except AssertionError as error:
        raise AssertionError("\n".join(stack.lines)) from error
