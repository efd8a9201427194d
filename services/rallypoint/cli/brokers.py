"""Real brokers as child processes of a test or a bench: started, killed, restarted, stopped by pid.

    both = brokers.Brokers(directory)         # free ports, files below `directory`
    both.start(); both.nats.kill(); both.nats.start()         # same port, same data
    both.stop()

Commands and configuration are those of `rallypoint up` (`broker_plan`). A child dies with its
parent: it asks the kernel for SIGKILL at the death of the thread that started it, so that should be
one that lives as long as it is needed (the main one, or a loop's executor).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rallypoint.cli import broker_plan, plan, ports

HEALTHY_WITHIN_S = 15.0
STOPPED_WITHIN_S = 10.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class BrokerFailed(Exception):
    """A broker did not start; the text names the broker and its log."""


class Broker:
    """One broker process with its port and its files."""

    def __init__(self, process: plan.Process, log: Path) -> None:
        self._plan = process
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return what clients connect to."""
        suffix = "/0" if self._plan.kind == "redis" else ""
        return f"{self._plan.kind}://127.0.0.1:{self._plan.port}{suffix}"

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._plan.port

    @property
    def pid(self) -> int:
        """Return the id of its process; 0 when it does not run."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Start it on its files and wait until it answers; raises BrokerFailed."""
        parent = os.getpid()

        def prepare() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                self._plan.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=prepare,
                start_new_session=True,
            )
        self._wait_healthy(self._child)

    def _wait_healthy(self, child: subprocess.Popen[bytes]) -> None:
        ask: Callable[[int], bool] = _HEALTHY[self._plan.kind]
        until = time.monotonic() + HEALTHY_WITHIN_S
        while time.monotonic() < until and child.poll() is None:
            if ask(self._plan.port):
                return
            time.sleep(_POLL_S)
        self.kill()
        raise BrokerFailed(f"{self._plan.kind} did not start: see {self._log}")

    def pause(self) -> None:
        """Stop its process in its tracks (SIGSTOP): connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)
        if self._child is not None:  # until it has, its threads may still answer
            os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without warning (SIGKILL); its files stay."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
            self._child = None

    def stop(self) -> None:
        """Ask it to end, kill it when it does not; its files stay. Safe to call twice."""
        self._signal(signal.SIGTERM)
        if self._child is not None:
            try:
                self._child.wait(STOPPED_WITHIN_S)
                self._child = None
            except subprocess.TimeoutExpired:
                self.kill()

    def restart(self) -> None:
        """Kill it and start it again on the same port and files."""
        self.kill()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)


class Brokers:
    """A nats-server and a redis-server on free ports."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        broker_plan.refuse_missing()
        nats, redis = broker_plan.processes(directory, ports.free(("nats", "redis")))
        self.nats = Broker(nats, directory / "nats.log")
        self.redis = Broker(redis, directory / "redis.log")

    def start(self) -> None:
        """Start both; neither runs when one fails."""
        try:
            self.nats.start()
            self.redis.start()
        except BrokerFailed:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both."""
        self.nats.stop()
        self.redis.stop()


def _nats_answers(port: int) -> bool:
    return _first_line(port, b"").startswith(b"INFO ")


def _redis_answers(port: int) -> bool:
    return _first_line(port, b"PING\r\n") == b"+PONG\r\n"


_HEALTHY = {"nats": _nats_answers, "redis": _redis_answers}


def _first_line(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                return answer.readline(65536)
    except OSError:
        return b""
