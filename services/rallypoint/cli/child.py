"""One child process: started with its own log, session and death signal, watched until it ends.

A child never outlives us (PDEATHSIG) and does not see the terminal's Ctrl-C (its own session): the
stack alone decides the order in which children end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from rallypoint.cli import plan

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
BROKERS = ("nats", "redis")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far, threads included."""

    user_s: float
    system_s: float
    rss_bytes: int

    @property
    def cpu_s(self) -> float:
        """Seconds on a core."""
        return self.user_s + self.system_s


@dataclass(slots=True)
class Child:
    """A started process and its times (monotonic seconds)."""

    plan: plan.Process
    process: asyncio.subprocess.Process
    started_s: float
    ready_s: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return self.process.returncode is None

    async def wait(self) -> int:
        """Its exit code; negative for a signal."""
        return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, *, within_s: float, number: Signals = Signals.SIGTERM) -> None:
        """Ask it to end; kill it when it has not after a while."""
        self.signal(number)
        try:
            async with asyncio.timeout(within_s):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()


def bind_to_parent(
    parent: int, *, cpus: Iterable[int] = (), last_signal: signal.Signals = signal.SIGKILL
) -> None:
    """Between fork and exec: end when `parent` ends, run on `cpus` when some are named."""
    _LIBC.prctl(PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if cpus:
        os.sched_setaffinity(0, cpus)


async def start(process: plan.Process, *, log: Path, cpus: Iterable[int] = ()) -> Child:
    """Start a process; its output goes to the end of `log`, its threads to `cpus` when named."""
    parent = os.getpid()
    # A broker gets to write its file when we vanish; a service without one has nothing to save.
    last_signal = signal.SIGTERM if process.kind in BROKERS else signal.SIGKILL

    with log.open("ab") as output:
        started_s = time.monotonic()
        running = await asyncio.create_subprocess_exec(
            *process.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **process.environment},
            preexec_fn=lambda: bind_to_parent(parent, cpus=cpus, last_signal=last_signal),
            start_new_session=True,
        )
    return Child(plan=process, process=running, started_s=started_s)


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Let a process run on `cpus` only, all its threads; nothing when it is gone."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)


def usage(pid: int) -> Usage:
    """CPU and memory of a process from /proc; zeros when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return Usage(user_s=0.0, system_s=0.0, rss_bytes=0)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return Usage(
        user_s=int(fields[11]) * tick_s,
        system_s=int(fields[12]) * tick_s,
        rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
    )
